use super::*;

/// A masked text frame whose header announces this length.
fn frame(announced: usize, payload: &str) -> Vec<u8> {
    let mut bytes = vec![0x81, 0xff];
    bytes.extend_from_slice(&(announced as u64).to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(payload.as_bytes());
    bytes
}

fn feed(reader: &mut Reader, bytes: &[u8], max: usize, inbox: &mut Inbox) -> Result<(), LeaveReason> {
    reader.feed(bytes, &mut SendQueue::default(), max, inbox)
}

#[test]
fn long_frames_arrive_however_they_are_cut() {
    let long = "x".repeat(100_000);
    let texts = ["first", &long, "second", &long, &long, "third"];
    let bytes: Vec<u8> = texts.iter().flat_map(|text| frame(text.len(), text)).collect();
    for cut in [1, 2, 3, 7, 4096, 99_991, bytes.len()] {
        let (mut reader, mut inbox) = (Reader::default(), Inbox::default());
        for chunk in bytes.chunks(cut) {
            feed(&mut reader, chunk, usize::MAX, &mut inbox).unwrap();
        }
        assert_eq!(inbox.texts, texts, "chunks of {cut}");
        assert!(reader.context.is_none() && reader.held.is_empty());
    }
}

#[test]
fn an_announced_length_alone_allocates_nothing() {
    for exponent in [17, 40, 62] {
        let (mut reader, mut inbox) = (Reader::default(), Inbox::default());
        let bytes = [frame(5, "first"), frame(1 << exponent, "the beginning")].concat();
        feed(&mut reader, &bytes, usize::MAX, &mut inbox).unwrap();
        assert_eq!(inbox.texts, ["first"]);
        assert!(reader.held.capacity() < 1024, "{}", reader.held.capacity());
    }
}

#[test]
fn a_frame_longer_than_a_message_may_be_is_refused_at_once() {
    let (mut reader, mut inbox) = (Reader::default(), Inbox::default());
    let refused = feed(&mut reader, &frame(200_001, ""), 200_000, &mut inbox);
    assert_eq!(refused, Err(LeaveReason::TooBig));
}
