//! One text frame of a client: whatever it holds, the other member hears a sound frame or nothing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tower_chat_rooms_fuzz::{Client, assert_empty, rooms, run};

fuzz_target!(|data: &[u8]| {
    let Some((mode, text)) = data.split_first() else { return };
    run(async {
        let (rooms, inside) = rooms();
        let mut ann = Client::connect(&rooms, mode & 1 != 0, 1 << 16);
        let mut bob = Client::connect(&rooms, mode & 2 != 0, 1 << 16);
        for client in [&mut ann, &mut bob] {
            client.text(r#"{"event":"enter","message":"bob","roomId":"r"}"#).await;
            client.read().await;
        }
        let fin = if mode & 4 != 0 { 0x81 } else { 0x01 };
        ann.frame(fin, text).await;
        let answers = ann.read().await;
        for frame in bob.read().await {
            // Ann can't speak for anybody else, nor for the server.
            let event = frame["event"].as_str().unwrap_or_default();
            let reserved = ["noAuth", "error", "welcome", "entered", "ack"];
            assert!(!reserved.contains(&event), "{frame}");
            if event != "heartbeat" && event != "enter" && event != "out" {
                assert_eq!(frame["name"], "bob", "{frame}");
                assert!(answers.iter().any(|own| own["event"] == event), "{frame} was not echoed");
            }
        }
        ann.vanish().await;
        bob.vanish().await;
        assert_empty(&rooms, &inside).await;
    });
});
