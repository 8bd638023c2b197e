//! The frames that clients receive and send.

/// The opcode of a text frame.
pub(crate) const TEXT: u8 = 1;

/// The opcode of a close frame.
pub(crate) const CLOSE: u8 = 8;

/// The answer to a heartbeat.
pub(crate) const PONG: &[u8] = b"\x81\xa6\0\0\0\0{\"event\":\"heartbeat\",\"message\":\"pong\"}";

/// The answer to a close frame.
pub(crate) const CLOSE_ANSWER: &[u8] = b"\x88\x80\0\0\0\0";

/// A frame of the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) opcode: u8,
    pub(crate) payload: &'a [u8],
}

/// The frames in bytes from the server, as long as they are complete.
pub(crate) struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Frames<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Frames<'a> {
        Frames { rest: bytes }
    }

    /// What follows the last complete frame.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let (header, len): (usize, usize) = match *self.rest {
            [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
            [_, 127, a, b, c, d, e, f, g, h, ..] => {
                (10, usize::try_from(u64::from_be_bytes([a, b, c, d, e, f, g, h])).ok()?)
            }
            [_, len @ ..=125, ..] => (2, usize::from(len)),
            _ => return None,
        };
        let payload = self.rest.get(header..header.checked_add(len)?)?;
        let opcode = self.rest[0] & 0xf;
        self.rest = &self.rest[header + len..];
        Some(Frame { opcode, payload })
    }
}

/// A text frame of a client, with a mask of zeros, which does not change the text.
pub(crate) fn text_frame(payload: &str) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 8);
    match u16::try_from(payload.len()).expect("a short frame") {
        len @ ..=125 => frame.extend([0x81, 0x80 | len as u8]),
        len => {
            frame.extend([0x81, 0x80 | 126]);
            frame.extend(len.to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload.as_bytes());
    frame
}

/// The frame with which a client enters a room.
pub(crate) fn enter(number: u32, room: u32) -> Vec<u8> {
    text_frame(&format!(r#"{{"event":"enter","message":"c{number}","roomId":"r{room}"}}"#))
}

/// The name of an event, if it is the first key, as in all frames of the server.
pub(crate) fn event(payload: &[u8]) -> Option<&[u8]> {
    let rest = payload.strip_prefix(br#"{"event":""#)?;
    rest.iter().position(|byte| *byte == b'"').map(|end| &rest[..end])
}

/// The number at the end of an object, if this is its key.
pub(crate) fn last_number(payload: &[u8], key: &str) -> Option<u32> {
    let rest = payload.strip_suffix(b"}")?;
    let digits = rest.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (before, number) = rest.split_at(rest.len() - digits);
    let key = before.strip_suffix(b"\":")?.strip_suffix(key.as_bytes())?;
    let number = std::str::from_utf8(number).ok()?.parse().ok()?;
    key.ends_with(b"\"").then_some(number)
}

/// The status code of a close frame.
pub(crate) fn close_code(payload: &[u8]) -> Option<u16> {
    payload.first_chunk().map(|code| u16::from_be_bytes(*code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_all_lengths_are_found() {
        let mut bytes = vec![0x81, 2, b'h', b'i', 0x88, 0];
        bytes.extend([0x81, 126, 1, 0]);
        bytes.extend([b'x'; 256]);
        bytes.extend([0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        bytes.extend([b'y'; 1 << 16]);
        bytes.extend([0x81, 5, b'h']);
        let mut frames = Frames::new(&bytes);
        assert_eq!(frames.next(), Some(Frame { opcode: TEXT, payload: b"hi" }));
        assert_eq!(frames.next(), Some(Frame { opcode: CLOSE, payload: b"" }));
        assert_eq!(frames.next().map(|frame| frame.payload.len()), Some(256));
        assert_eq!(frames.next().map(|frame| frame.payload.len()), Some(1 << 16));
        assert_eq!((frames.next(), frames.rest()), (None, &b"\x81\x05h"[..]));
        for cut in [&b""[..], b"\x81", b"\x81\x7e\x01", b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff"] {
            assert_eq!(Frames::new(cut).next(), None);
        }
    }

    #[test]
    fn frames_of_clients_have_the_length_that_they_say() {
        assert_eq!(&PONG[6..], br#"{"event":"heartbeat","message":"pong"}"#);
        assert_eq!(usize::from(PONG[1] & 0x7f), PONG.len() - 6);
        assert_eq!(text_frame("hi"), b"\x81\x82\0\0\0\0hi");
        assert_eq!(text_frame(&"x".repeat(300))[..8], [0x81, 0xfe, 1, 44, 0, 0, 0, 0]);
    }

    #[test]
    fn only_the_last_key_counts() {
        let number = |text: &str, key| last_number(text.as_bytes(), key);
        assert_eq!(number(r#"{"event":"out","name":"c1","num":12}"#, "num"), Some(12));
        assert_eq!(number(r#"{"num":12,"seq":3}"#, "num"), None);
        assert_eq!(number(r#"{"num":12,"seq":3}"#, "seq"), Some(3));
        for text in ["", "}", r#"{"seq":}"#, r#"{"xseq":3}"#, r#"{"seq":99999999999}"#, r#"{"seq":"3"}"#] {
            assert_eq!(number(text, "seq"), None, "{text}");
        }
        assert_eq!(event(br#"{"event":"out","name":"c1"}"#), Some(&b"out"[..]));
        assert_eq!(event(br#"{"name":"c1","event":"out"}"#), None);
    }
}
