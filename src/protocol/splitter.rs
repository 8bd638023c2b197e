//! Cuts large frames of a client into fragments.
//!
//! A WebSocket library reserves memory for a frame as soon as its header announces the length, and an announcement
//! costs a client nothing. A message in fragments (RFC 6455 §5.4) grows as it arrives.

use bytes::Bytes;

/// Payload bytes of a fragment: a multiple of the mask's length, so that the mask continues across fragments.
pub(crate) const PART: usize = 0xfffc;

/// Messages up to this length are not cut: the memory that their headers reserve does no harm.
const HARMLESS: usize = 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Splitter {
    max_message_bytes: u64,
    /// Header bytes seen so far of the frame that has begun.
    header: [u8; 14],
    header_len: usize,
    frame: Frame,
}

/// The frame whose payload is arriving.
#[derive(Debug, Default)]
struct Frame {
    /// FIN, the reserved bits and the opcode of what follows.
    first: u8,
    is_masked: bool,
    mask: [u8; 4],
    /// Payload bytes up to the end of the fragment.
    part: usize,
    /// Payload bytes after the fragment.
    rest: u64,
}

/// A frame is longer than a message may be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Splitter {
    /// `None` if messages are so short that their frames need not be cut.
    pub(crate) fn new(max_message_bytes: usize) -> Option<Splitter> {
        (max_message_bytes > HARMLESS).then(|| Splitter {
            max_message_bytes: max_message_bytes as u64,
            header: [0; 14],
            header_len: 0,
            frame: Frame::default(),
        })
    }

    /// The same bytes, with large frames in fragments.
    pub(crate) fn split(&mut self, mut bytes: &[u8]) -> Result<Bytes, TooLong> {
        let mut out = Vec::with_capacity(bytes.len() + 16);
        while !bytes.is_empty() {
            if self.frame.part > 0 {
                let (part, others) = bytes.split_at(self.frame.part.min(bytes.len()));
                out.extend_from_slice(part);
                self.frame.part -= part.len();
                bytes = others;
            } else {
                self.header[self.header_len] = bytes[0];
                self.header_len += 1;
                bytes = &bytes[1..];
                self.begin_frame(&mut out)?;
            }
            if self.frame.part == 0 && self.frame.rest > 0 {
                self.begin_fragment(&mut out);
            }
        }
        Ok(out.into())
    }

    /// Reads the header, once it is complete.
    fn begin_frame(&mut self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        if self.header_len < 2 {
            return Ok(());
        }
        let [first, second, ..] = self.header;
        let is_masked = second & 0x80 != 0;
        let lengths = match second & 0x7f {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        let end = lengths + if is_masked { 4 } else { 0 };
        if self.header_len < end {
            return Ok(());
        }
        let len = match lengths {
            2 => u64::from(second & 0x7f),
            _ => self.header[2..lengths].iter().fold(0, |len, byte| len << 8 | u64::from(*byte)),
        };
        self.header_len = 0;
        let mut mask = [0; 4];
        mask.copy_from_slice(&self.header[end - 4..end]);
        self.frame = Frame { first, is_masked, mask, part: 0, rest: len };
        let is_control = first & 0x08 != 0;
        if !is_control && len > self.max_message_bytes {
            return Err(TooLong);
        }
        if is_control || len <= PART as u64 {
            out.extend_from_slice(&self.header[..end]);
            // A control frame is short. If it is not, the parser refuses it because of its header.
            (self.frame.part, self.frame.rest) = (len as usize, 0);
        }
        Ok(())
    }

    fn begin_fragment(&mut self, out: &mut Vec<u8>) {
        let Frame { first, is_masked, mask, part, rest } = &mut self.frame;
        *part = PART.min(usize::try_from(*rest).unwrap_or(PART));
        *rest -= *part as u64;
        let fin = if *rest == 0 { *first & 0x80 } else { 0 };
        out.push(*first & 0x7f | fin);
        let masked = if *is_masked { 0x80 } else { 0 };
        out.extend_from_slice(&[126 | masked]);
        out.extend_from_slice(&(*part as u16).to_be_bytes());
        if *is_masked {
            out.extend_from_slice(mask);
        }
        // A continuation follows, without reserved bits.
        *first &= 0x80;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
    use tokio_tungstenite::tungstenite::{Error, Message};

    /// A masked frame of a client.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut bytes = vec![first];
        match payload.len() {
            len @ 0..=125 => bytes.push(0x80 | len as u8),
            len @ 126..=65_535 => {
                bytes.push(0x80 | 126);
                bytes.extend((len as u16).to_be_bytes());
            }
            len => {
                bytes.push(0x80 | 127);
                bytes.extend((len as u64).to_be_bytes());
            }
        }
        bytes.extend(mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        bytes
    }

    fn read(bytes: Vec<u8>) -> Vec<Message> {
        struct Source(std::io::Cursor<Vec<u8>>);
        impl std::io::Read for Source {
            fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
                self.0.read(buf)
            }
        }
        impl std::io::Write for Source {
            fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
                Ok(buf.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let config = WebSocketConfig::default().max_frame_size(Some(PART));
        let source = Source(std::io::Cursor::new(bytes));
        let mut socket = WebSocket::from_raw_socket(source, Role::Server, Some(config));
        let mut messages = Vec::new();
        loop {
            match socket.read() {
                Ok(message) => messages.push(message),
                Err(Error::Protocol(_) | Error::ConnectionClosed | Error::Io(_)) => return messages,
                Err(e) => panic!("{e}"),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn messages_stay_the_same(
            lens in prop::collection::vec(prop_oneof![0usize..200, PART - 2..PART + 3, 0usize..300_000], 1..6),
            chunk in 1usize..9000,
        ) {
            let texts: Vec<String> = lens.iter().map(|len| "abcdefg".chars().cycle().take(*len).collect()).collect();
            let mut bytes = Vec::new();
            for text in &texts {
                // A ping stands between the fragments of a message.
                let (one, two) = text.split_at(text.len() / 3);
                bytes.extend(frame(0x01, one.as_bytes()));
                bytes.extend(frame(0x89, b"ping"));
                bytes.extend(frame(0x80, two.as_bytes()));
            }
            let mut splitter = Splitter::new(usize::MAX).unwrap();
            let split: Vec<u8> =
                bytes.chunks(chunk).flat_map(|chunk| splitter.split(chunk).unwrap()).collect();
            let got: Vec<String> = read(split)
                .into_iter()
                .filter(Message::is_text)
                .map(|message| message.into_text().unwrap().to_string())
                .collect();
            prop_assert_eq!(got, texts);
        }
    }

    #[test]
    fn an_announced_length_costs_nothing() {
        let mut splitter = Splitter::new(usize::MAX).unwrap();
        let header = [0x81, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 1, 2, 3, 4];
        assert_eq!(splitter.split(&header).unwrap().as_ref(), [0x01, 0xfe, 0xff, 0xfc, 1, 2, 3, 4]);
        let mut splitter = Splitter::new(1 << 30).unwrap();
        assert_eq!(splitter.split(&header), Err(TooLong));
        assert!(Splitter::new(HARMLESS).is_none());
    }
}
