//! WebSocket frames byte by byte, as a client sends them.

/// Any mask will do, but zeros would not show whether the server removes it.
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// A masked frame. The first byte has the final and reserved bits and the opcode.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        n @ 0..=125 => frame.push(0x80 | n as u8),
        n @ 126..=65_535 => {
            frame.push(0x80 | 126);
            frame.extend((n as u16).to_be_bytes());
        }
        n => {
            frame.push(0x80 | 127);
            frame.extend((n as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b));
    frame
}

pub(crate) fn text_frame(text: &str) -> Vec<u8> {
    frame(0x81, text.as_bytes())
}

pub(crate) fn close_frame(code: u16) -> Vec<u8> {
    frame(0x88, &code.to_be_bytes())
}

/// Parses whole frames of a server: the first byte of each, and its payload. Ignores an incomplete one at the end.
pub(crate) fn server_frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [first, len, rest @ ..] = bytes {
        assert!(len & 0x80 == 0, "a server must not mask");
        let (len, rest) = match (len, rest) {
            (126, [a, b, rest @ ..]) => (usize::from(u16::from_be_bytes([*a, *b])), rest),
            (126, _) => break,
            (127, _) => panic!("longer than any frame in these tests"),
            (n, rest) => (usize::from(*n), rest),
        };
        let Some((payload, rest)) = rest.split_at_checked(len) else { break };
        frames.push((*first, payload.to_vec()));
        bytes = rest;
    }
    frames
}

/// The code of a close frame with these first byte and payload, if it is one.
pub(crate) fn close_code_of((first, payload): &(u8, Vec<u8>)) -> Option<u16> {
    (*first == 0x88).then(|| u16::from_be_bytes([payload[0], payload[1]]))
}
