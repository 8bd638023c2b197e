//! RFC 6455, frame by frame, with a member that receives its own messages. Sections are named as in the Autobahn
//! testsuite.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tower_chat_rooms::{Admission, ChatRooms};

use crate::support::{default_rooms, frame, has_shared_broker, serve, text_frame, unlimited};

/// A member that sends and receives bytes.
struct RawClient {
    io: DuplexStream,
}

/// A frame of the server.
#[derive(Debug, PartialEq)]
enum Answer {
    /// A text frame with this `message`.
    Echo(String),
    Pong(Vec<u8>),
    Close(u16),
}

use Answer::{Close, Echo, Pong};

fn message(text: &str) -> String {
    json!({"event": "message", "message": text}).to_string()
}

fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend(reason.as_bytes());
    payload
}

impl RawClient {
    async fn enter(rooms: &ChatRooms) -> RawClient {
        let (io, _task) = serve(rooms, Admission::anonymous(), 1 << 20);
        let mut raw = RawClient { io };
        raw.send(&frame(0x81, br#"{"event":"enter","message":"a"}"#)).await;
        // The `message` of its own enter is its name.
        assert_eq!(raw.answer().await, Echo("a".into()));
        raw
    }

    async fn send(&mut self, bytes: &[u8]) {
        // The server may close before it has read the last byte.
        let _ = self.io.write_all(bytes).await;
    }

    /// The next frame that is not a heartbeat.
    async fn answer(&mut self) -> Answer {
        loop {
            let mut head = [0; 2];
            self.io.read_exact(&mut head).await.unwrap();
            assert_eq!(head[1] & 0x80, 0, "a server must not mask");
            let len = match head[1] {
                126 => usize::from(self.io.read_u16().await.unwrap()),
                127 => self.io.read_u64().await.unwrap() as usize,
                n => usize::from(n),
            };
            let mut payload = vec![0; len];
            self.io.read_exact(&mut payload).await.unwrap();
            match head[0] {
                0x81 => {
                    let value: serde_json::Value = serde_json::from_slice(&payload).unwrap();
                    if value["event"] != "heartbeat" {
                        return Echo(value["message"].as_str().unwrap().into());
                    }
                }
                0x8a => return Pong(payload),
                0x88 if payload.is_empty() => return Close(1005),
                0x88 => return Close(u16::from_be_bytes([payload[0], payload[1]])),
                other => panic!("{other:#x}"),
            }
        }
    }

    /// Asserts that the stream ends after the server's close frame.
    async fn assert_end(mut self) {
        self.io.shutdown().await.unwrap();
        let mut rest = Vec::new();
        self.io.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "{rest:?}");
    }
}

/// Sends these bytes at once and in pieces, byte by byte if they are few, and expects the same answers each time. The
/// connection stays open unless the last answer is a close.
async fn check(what: &str, bytes: &[u8], answers: &[Answer]) {
    let small = bytes.len().div_ceil(300);
    for piece in [usize::MAX, small, 7 * small] {
        let rooms = unlimited().build().unwrap();
        let mut raw = RawClient::enter(&rooms).await;
        for piece in bytes.chunks(piece.min(bytes.len())) {
            raw.send(piece).await;
            tokio::task::yield_now().await;
        }
        for answer in answers {
            let got = raw.answer().await;
            // With a broker, the connection may be closed before a message has come back.
            if has_shared_broker() && matches!(got, Close(_)) && answers.last() == Some(&got) {
                break;
            }
            assert_eq!(got, *answer, "{what}, in pieces of {piece}");
        }
        if let Some(Close(_)) = answers.last() {
            raw.assert_end().await;
        } else {
            raw.send(&text_frame(&message("alive"))).await;
            assert_eq!(raw.answer().await, Echo("alive".into()), "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn section_1_framing() {
    for len in [0, 90, 91, 92, 125, 126, 127, 128, 4095, 4096, 65_000] {
        let text = "x".repeat(len);
        let bytes = text_frame(&message(&text));
        check(&format!("text of {len}"), &bytes, &[Echo(text)]).await;
    }
    // Frames about the sizes at which the length is written in another way.
    let empty = message("").len();
    for len in [125, 126, 127, 65_535, 65_536] {
        let text = "x".repeat(len - empty);
        check(&format!("a frame of {len}"), &text_frame(&message(&text)), &[Echo(text)]).await;
    }
    check("an empty text is not JSON", &frame(0x81, b""), &[Echo(ERROR.into())]).await;
    check("binary is not supported", &frame(0x82, b"x"), &[Close(1003)]).await;
    check("over the limit", &frame(0x81, &[b'x'; 65_537])[..14], &[Close(1009)]).await;
    let mut huge = vec![0x81, 0x80 | 127];
    huge.extend(u64::MAX.to_be_bytes());
    huge.extend([0; 4]);
    check("2^64 - 1 bytes announced", &huge, &[Close(1009)]).await;
}

const ERROR: &str = "the frame is not JSON: EOF while parsing a value at line 1 column 0";

#[tokio::test(start_paused = true)]
async fn section_2_pings_and_pongs() {
    for payload in [&b""[..], b"hello", &[0xff; 125]] {
        check("ping", &frame(0x89, payload), &[Pong(payload.into())]).await;
    }
    check("ping of 126", &frame(0x89, &[0; 126]), &[Close(1002)]).await;
    check("pong unasked", &frame(0x8a, b"x"), &[]).await;
    check(
        "pong unasked, then a ping",
        &[frame(0x8a, b"x"), frame(0x89, b"y")].concat(),
        &[Pong(b"y".into())],
    )
    .await;
    check("pong of 126", &frame(0x8a, &[0; 126]), &[Close(1002)]).await;
    // Each ping that comes alone is answered, and at least the last of several (RFC 6455 §5.5.3).
    let rooms = default_rooms();
    let mut raw = RawClient::enter(&rooms).await;
    for n in 0..10 {
        raw.send(&frame(0x89, &[n])).await;
        assert_eq!(raw.answer().await, Pong(vec![n]));
    }
    raw.send(&(0..10).flat_map(|n| frame(0x89, &[n])).collect::<Vec<u8>>()).await;
    while raw.answer().await != Pong(vec![9]) {}
}

#[tokio::test(start_paused = true)]
async fn section_3_reserved_bits() {
    for bits in [0x40, 0x20, 0x10, 0x70] {
        for opcode in [0x1, 0x2, 0x8, 0x9] {
            check("reserved bits", &frame(0x80 | bits | opcode, b""), &[Close(1002)]).await;
            let bad = frame(0x80 | bits | opcode, b"x");
            let between = [text_frame(&message("first")), bad, frame(0x89, b"late")].concat();
            check("reserved bits", &between, &[Echo("first".into()), Close(1002)]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn section_4_opcodes() {
    for opcode in (0x3..=0x7).chain(0xb..=0xf) {
        check("reserved opcode", &frame(0x80 | opcode, b"x"), &[Close(1002)]).await;
        check("reserved opcode, empty", &frame(0x80 | opcode, b""), &[Close(1002)]).await;
        let mut after = text_frame(&message("first"));
        after.extend(frame(0x80 | opcode, b"x"));
        check("reserved opcode", &after, &[Echo("first".into()), Close(1002)]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn section_5_fragmentation() {
    let text = message("in three pieces");
    let (a, b, c) = (&text.as_bytes()[..9], &text.as_bytes()[9..20], &text.as_bytes()[20..]);
    let whole = || Echo("in three pieces".into());
    let join = |frames: &[(u8, &[u8])]| frames.iter().flat_map(|(f, p)| frame(*f, p)).collect::<Vec<u8>>();
    check("fragments", &join(&[(0x01, a), (0x00, b), (0x80, c)]), &[whole()]).await;
    check("empty fragments", &join(&[(0x01, b""), (0x00, a), (0x00, b""), (0x00, b), (0x80, c)]), &[whole()])
        .await;
    check(
        "a ping in between",
        &join(&[(0x01, a), (0x89, b"?"), (0x00, b), (0x8a, b"!"), (0x80, c)]),
        &[Pong(b"?".into()), whole()],
    )
    .await;
    check("a fragmented ping", &join(&[(0x09, b"?"), (0x80, b"!")]), &[Close(1002)]).await;
    check("a fragmented pong", &join(&[(0x0a, b"?"), (0x80, b"!")]), &[Close(1002)]).await;
    check("a fragmented close", &join(&[(0x08, &[3, 232]), (0x80, b"!")]), &[Close(1002)]).await;
    let pings: Vec<u8> = text
        .bytes()
        .enumerate()
        .flat_map(|(n, byte)| join(&[(u8::from(n == 0), &[byte]), (0x89, &[n as u8])]))
        .collect();
    let mut pongs: Vec<Answer> = (0..text.len()).map(|n| Pong(vec![n as u8])).collect();
    pongs.push(whole());
    let rooms = default_rooms();
    let mut raw = RawClient::enter(&rooms).await;
    for (piece, pong) in pings.chunks(pings.len() / text.len()).zip(&pongs) {
        raw.send(piece).await;
        assert_eq!(raw.answer().await, *pong, "a ping after each byte");
    }
    raw.send(&frame(0x80, b"")).await;
    assert_eq!(raw.answer().await, whole());
    check("nothing to continue", &join(&[(0x80, c)]), &[Close(1002)]).await;
    check("nothing to continue, not final", &join(&[(0x00, c)]), &[Close(1002)]).await;
    check("text within text", &join(&[(0x01, a), (0x81, c)]), &[Close(1002)]).await;
    check("continued after its end", &join(&[(0x81, text.as_bytes()), (0x80, c)]), &[whole(), Close(1002)])
        .await;
    let piece = [b'x'; 30_000];
    check("too big in all", &join(&[(0x01, &piece), (0x00, &piece), (0x00, &piece)]), &[Close(1009)]).await;
    check(
        "two messages, then nothing to continue",
        &join(&[(0x01, a), (0x00, b), (0x80, c), (0x00, a), (0x81, text.as_bytes())]),
        &[whole(), Close(1002)],
    )
    .await;
    check("text within text, not final", &join(&[(0x01, a), (0x01, b), (0x80, c)]), &[Close(1002)]).await;
    check("text within binary", &join(&[(0x02, a), (0x81, text.as_bytes())]), &[Close(1002)]).await;
    check("binary in fragments", &join(&[(0x02, b"x"), (0x80, b"y")]), &[Close(1003)]).await;
}

#[tokio::test(start_paused = true)]
async fn section_6_utf8() {
    let text = "κόσμε 小明 🦀";
    check("valid", &text_frame(&message(text)), &[Echo(text.into())]).await;
    // Cut inside a character.
    let bytes = message(text).into_bytes();
    for cut in [30, 31, 32, 42, 43, 52] {
        let cut = cut.min(bytes.len() - 1);
        let mut frames = frame(0x01, &bytes[..cut]);
        frames.extend(frame(0x80, &bytes[cut..]));
        check("valid across fragments", &frames, &[Echo(text.into())]).await;
    }
    for bad in [&b"\xff"[..], b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xce", b"a\xe5\xb0"] {
        check("invalid", &frame(0x81, bad), &[Close(1007)]).await;
        let mut frames = frame(0x01, bad);
        frames.extend(frame(0x80, b"..."));
        check("invalid in fragments", &frames, &[Close(1007)]).await;
    }
}

/// The limits of UTF-8, after Markus Kuhn's test file.
const VALID: [&str; 15] = [
    "\u{7f}",
    "\u{80}",
    "\u{7ff}",
    "\u{800}",
    "\u{d7ff}",
    "\u{e000}",
    "\u{fdd0}",
    "\u{fffd}",
    "\u{fffe}",
    "\u{ffff}",
    "\u{10000}",
    "\u{1fffe}",
    "\u{fffff}",
    "\u{10fffe}",
    "\u{10ffff}",
];

const INVALID: [&[u8]; 24] = [
    b"\x80",
    b"\xbf",
    b"\x80\xbf",
    b"\xc0",
    b"\xc1",
    b"\xc0\xaf",
    b"\xc1\xbf",
    b"\xdf",
    b"\xdfx",
    b"\xe0\x9f\xbf",
    b"\xe0\x80\x80",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xed\xa0\x80\xed\xb0\x80",
    b"\xef\xbf",
    b"\xf0\x8f\xbf\xbf",
    b"\xf0\x80\x80\x80",
    b"\xf4\x90\x80\x80",
    b"\xf5",
    b"\xf7\xbf\xbf\xbf",
    b"\xf8\x88\x80\x80\x80",
    b"\xfc\x84\x80\x80\x80\x80",
    b"\xfe",
    b"\xff",
];

/// A message with this text, in fragments of this size.
fn fragments(text: &[u8], size: usize) -> Vec<u8> {
    let message = [br#"{"event":"message","message":""#, text, br#""}"#].concat();
    let last = message.chunks(size).len() - 1;
    let chunks = message.chunks(size).enumerate();
    chunks.flat_map(|(n, chunk)| frame(u8::from(n == 0) | if n == last { 0x80 } else { 0 }, chunk)).collect()
}

#[tokio::test(start_paused = true)]
async fn section_6_utf8_at_its_limits() {
    for size in [1, 2, 3, usize::MAX] {
        for text in VALID {
            check("valid", &fragments(text.as_bytes(), size), &[Echo(text.into())]).await;
        }
        for text in INVALID {
            check("invalid", &fragments(text, size), &[Close(1007)]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn section_9_limits() {
    let text = "x".repeat(65_536 - message("").len());
    for size in [64, 256, 1_000, 4_096, 1 << 15] {
        check("large, in fragments", &fragments(text.as_bytes(), size), &[Echo(text.clone())]).await;
    }
    // One byte more, in the last fragment.
    check("too large", &fragments(format!("{text}x").as_bytes(), 4_096), &[Close(1009)]).await;
}

#[tokio::test(start_paused = true)]
async fn section_10_fragments_of_the_size_of_network_packets() {
    let text = "*".repeat(60_000);
    check("fragments of 1300", &fragments(text.as_bytes(), 1300), &[Echo(text)]).await;
}

#[tokio::test(start_paused = true)]
async fn section_7_close() {
    check("without a code", &frame(0x88, b""), &[Close(1005)]).await;
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        check("valid code", &frame(0x88, &close_payload(code, "bye")), &[Close(code)]).await;
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        check("invalid code", &frame(0x88, &close_payload(code, "")), &[Close(1002)]).await;
    }
    check("half a code", &frame(0x88, &[3]), &[Close(1002)]).await;
    check("a reason of 123", &frame(0x88, &close_payload(1000, &"x".repeat(123))), &[Close(1000)]).await;
    check("a reason of 124", &frame(0x88, &close_payload(1000, &"x".repeat(124))), &[Close(1002)]).await;
    let mut bad = close_payload(1000, "");
    bad.extend(b"\xce\xba\xff");
    check("a reason that is not UTF-8", &frame(0x88, &bad), &[Close(1007)]).await;
    let mut after = frame(0x88, &close_payload(1000, ""));
    after.extend(text_frame(&message("too late")));
    after.extend(frame(0x89, b"too late"));
    check("frames after a close are ignored", &after, &[Close(1000)]).await;
    let twice = [frame(0x88, &close_payload(1000, "")), frame(0x88, &close_payload(1001, ""))].concat();
    check("two closes", &twice, &[Close(1000)]).await;
    let within = [frame(0x01, b"{"), frame(0x88, &close_payload(1000, "")), frame(0x80, b"}")].concat();
    check("a close between fragments", &within, &[Close(1000)]).await;
    let long = message(&"x".repeat(60_000));
    let behind = [text_frame(&long), frame(0x88, &close_payload(1000, ""))].concat();
    let rooms = default_rooms();
    let (mut raw, mut other) = (RawClient::enter(&rooms).await, RawClient::enter(&rooms).await);
    raw.send(&behind).await;
    assert_eq!(other.answer().await, Echo("x".repeat(60_000)), "a message before the close is published");
    check("an unmasked frame", &[0x81, 2, b'{', b'}'], &[Close(1002)]).await;
}
