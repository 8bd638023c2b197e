//! WebSocket frames as a server sends them: unmasked, unfragmented, encoded once and shared by
//! reference count.

use bytes::Bytes;

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;

/// Appends one text frame (RFC 6455 §5.2) whose payload is the parts one after the other.
pub(crate) fn push_text(out: &mut Vec<u8>, parts: &[&[u8]]) {
    let len = parts.iter().map(|p| p.len()).sum();
    out.reserve(len + 10);
    push_header(out, TEXT, len);
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// One text frame.
pub(crate) fn text(payload: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(payload.len() + 10);
    push_text(&mut out, &[payload]);
    out.into()
}

/// One close frame (RFC 6455 §5.5.1). The reason must be at most 123 bytes.
pub(crate) fn close(code: u16, reason: &str) -> Vec<u8> {
    debug_assert!(reason.len() <= 123);
    let mut out = Vec::with_capacity(reason.len() + 4);
    push_header(&mut out, CLOSE, reason.len() + 2);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
    out
}

fn push_header(out: &mut Vec<u8>, first: u8, len: usize) {
    out.push(first);
    match len {
        0..=125 => out.push(len as u8),
        126..=65_535 => {
            out.push(126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

/// The length, including the header, of the server's frame that begins at `bytes[0]`.
pub(crate) fn frame_len(bytes: &[u8]) -> usize {
    match bytes[1] {
        126 => 4 + usize::from(u16::from_be_bytes([bytes[2], bytes[3]])),
        127 => {
            let mut len = [0; 8];
            len.copy_from_slice(&bytes[2..10]);
            10 + u64::from_be_bytes(len) as usize
        }
        len => 2 + usize::from(len),
    }
}

/// The payload of one of the server's frames.
pub(crate) fn payload(frame: &[u8]) -> &[u8] {
    match frame[1] {
        126 => &frame[4..],
        127 => &frame[10..],
        _ => &frame[2..],
    }
}

/// Follows the frames of a client's byte stream by their headers alone. It tells when no unfinished message is under
/// way, and counts the frames that are not messages. It checks nothing.
#[derive(Debug, Default)]
pub(crate) struct Boundary {
    /// Header bytes seen so far of the frame that has begun.
    header: [u8; 10],
    header_len: u8,
    /// Bytes of mask and payload still to come.
    rest: u64,
    /// A fragmented message is unfinished.
    fragmented: bool,
    /// Control frames, and all parts of messages except the last.
    others: u32,
}

impl Boundary {
    /// Between two messages.
    pub(crate) fn is_clean(&self) -> bool {
        self.header_len == 0 && self.rest == 0 && !self.fragmented
    }

    /// Frames since the last call that neither were a message nor ended one.
    pub(crate) fn take_others(&mut self) -> u32 {
        std::mem::take(&mut self.others)
    }

    pub(crate) fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.rest > 0 {
                let n = self.rest.min(bytes.len() as u64);
                self.rest -= n;
                bytes = &bytes[n as usize..];
                continue;
            }
            self.header[usize::from(self.header_len)] = bytes[0];
            self.header_len += 1;
            bytes = &bytes[1..];
            self.finish_header();
        }
    }

    fn finish_header(&mut self) {
        if self.header_len < 2 {
            return;
        }
        let [first, second, ..] = self.header;
        let (need, len) = match second & 0x7f {
            126 => (4, u64::from(u16::from_be_bytes([self.header[2], self.header[3]]))),
            127 => {
                let mut len = [0; 8];
                len.copy_from_slice(&self.header[2..10]);
                (10, u64::from_be_bytes(len))
            }
            len => (2, u64::from(len)),
        };
        if self.header_len < need {
            return;
        }
        let mask = if second & 0x80 != 0 { 4 } else { 0 };
        self.header_len = 0;
        self.rest = len.saturating_add(mask);
        // Control frames may stand between the fragments of a message (RFC 6455 §5.4).
        let is_control = first & 0x08 != 0;
        if !is_control {
            self.fragmented = first & 0x80 == 0;
        }
        if is_control || self.fragmented {
            self.others = self.others.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
    use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame, FrameSocket};

    #[test]
    fn headers_have_three_lengths() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let payload = vec![b'x'; len];
            let frame = text(&payload);
            assert_eq!(frame_len(&frame), frame.len());
            assert_eq!(super::payload(&frame), payload);
            let read = FrameSocket::new(&frame[..]).read(None).unwrap().unwrap();
            assert_eq!(read.header().opcode, OpCode::Data(Data::Text));
            assert!(read.header().is_final);
            assert_eq!(read.payload(), payload);
        }
    }

    #[test]
    fn close_frames_are_what_tungstenite_writes() {
        let theirs = Frame::close(Some(CloseFrame { code: 1012.into(), reason: "bye".into() }));
        let mut out = Vec::new();
        theirs.format(&mut out).unwrap();
        assert_eq!(close(1012, "bye"), out);
    }

    proptest! {
        /// No matter how the bytes are cut, the boundary is clean exactly between messages.
        #[test]
        fn boundary_follows_any_cut(
            frames in prop::collection::vec((0usize..300, any::<bool>(), any::<bool>()), 1..8),
            cut in 1usize..40,
        ) {
            let mut bytes = Vec::new();
            let mut clean = vec![0];
            let mut others = 0;
            let mut open = false;
            for (len, control, fin) in frames {
                let (len, first) = match control {
                    true => (len.min(125), 0x89),
                    false => {
                        let first = if open { 0 } else { 1 } | if fin { 0x80 } else { 0 };
                        open = !fin;
                        (len, first)
                    }
                };
                push_header(&mut bytes, first, len);
                let at = bytes.len() - if len > 125 { 3 } else { 1 };
                bytes[at] |= 0x80;
                bytes.extend(vec![0; len + 4]);
                if !open {
                    clean.push(bytes.len());
                }
                others += u32::from(control || open);
            }
            let mut boundary = Boundary::default();
            let mut at = 0;
            for chunk in bytes.chunks(cut) {
                boundary.advance(chunk);
                at += chunk.len();
                prop_assert_eq!(boundary.is_clean(), clean.contains(&at), "at {}", at);
            }
            prop_assert_eq!((boundary.take_others(), boundary.take_others()), (others, 0));
        }
    }
}
