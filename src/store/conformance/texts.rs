//! Room ids, keys, names and bodies that databases may confuse or change.

use super::{Suite, random};
use crate::store::StoredMessage;

/// Texts that must be kept apart and as they are.
const ODD_TEXTS: [&str; 19] = [
    "a",
    "A",
    "a ",
    "a%",
    "a_",
    "a\\",
    "a'; --",
    "a\"",
    "a$1",
    "a?1",
    "a{}",
    "á",
    "a\u{301}",
    "ａ",
    "ß",
    "ss",
    "小明",
    "👩\u{200d}🚀",
    "null",
];

/// JSON objects whose text is not what a database would write.
const ODD_BODIES: [&str; 12] = [
    "{}",
    r#" { "b" : 1 , "a" : 2 } "#,
    r#"{"a":1,"a":2}"#,
    r#"{"a":"\u0000"}"#,
    r#"{"a":"\u0061\ud83d\ude00\/"}"#,
    r#"{"a":1.0,"b":1e2,"c":-0,"d":12345678901234567890123456789}"#,
    r#"{"a":"'; DROP TABLE chat_rooms_messages; --"}"#,
    r#"{"a":"$1 ?1 :a @a %s {} \\"}"#,
    "{\"a\":\"\u{7f}\u{85}\u{2028}\u{feff}\u{ffff}\"}",
    "{\"a\":\"👩\u{200d}🚀 e\u{301} \u{202e}\"}",
    "{\n\t\"a\":\r\n[null,true,{}]\n}",
    r#"{"":""}"#,
];

impl Suite {
    pub(super) async fn check_texts(&self) {
        self.room_ids_are_compared_exactly().await;
        self.keys_are_compared_exactly().await;
        self.texts_are_kept_as_they_are().await;
    }

    async fn room_ids_are_compared_exactly(&self) {
        let run = random();
        let long = "x".repeat(400);
        let mut rooms = Vec::new();
        for text in ODD_TEXTS.into_iter().chain([&*long]) {
            // At both ends, where databases ignore spaces or compare only so many characters.
            for name in [format!("{text}-{run}-conformance"), format!("conformance-{run}-{text}")] {
                let mut room = self.room_called(&name);
                let messages = [room.message("of this room only")];
                room.append(&messages).await;
                rooms.push((room, messages));
            }
        }
        for (room, messages) in &rooms {
            room.check("room ids that are not the same are different rooms", messages).await;
        }
    }

    async fn keys_are_compared_exactly(&self) {
        let mut room = self.room();
        let long = "x".repeat(254);
        let mut messages = Vec::new();
        for key in ODD_TEXTS.iter().map(|key| key.to_string()).chain([format!("{long}a"), format!("{long}b")])
        {
            messages.push(room.message("with an odd key").with_key(key));
        }
        messages.push(room.message("without a key"));
        let expected = super::ids(&messages);
        assert_eq!(
            room.append(&messages).await,
            expected,
            "the ids of messages with keys that are not the same"
        );
        room.check("keys that are not the same are different keys", &messages).await;
    }

    async fn texts_are_kept_as_they_are(&self) {
        let mut room = self.room();
        let mut messages = Vec::new();
        for body in ODD_BODIES {
            let id = room.message("").id();
            messages.push(StoredMessage::new(id, body));
        }
        let long = format!("{{\"message\":\"{}\"}}", "小".repeat(100_000));
        let highest = u64::MAX.to_string().parse().expect("a number is a connection id");
        let id = room.message("").id();
        messages.push(StoredMessage::new(id, long).with_connection(highest).with_user("").with_name(" "));
        for text in ODD_TEXTS {
            messages.push(room.message("with odd texts").with_user(text).with_name(text));
        }
        room.append(&messages).await;
        room.check("texts are kept as they are", &messages).await;
    }
}
