//! Appends that are repeated, as a whole or in part, and appends that fail.

use super::{Suite, ids};
use crate::store::StoredMessage;

impl Suite {
    pub(super) async fn check_appends(&self) {
        self.a_repeated_append_changes_nothing().await;
        self.a_repeated_key_has_the_id_of_the_first_message().await;
        self.a_key_occurs_once_in_an_append().await;
        self.rooms_are_independent().await;
        self.an_append_may_have_lower_ids_than_those_before().await;
        self.an_append_with_the_id_of_another_message_fails_as_a_whole().await;
    }

    async fn a_repeated_append_changes_nothing(&self) {
        let mut room = self.room();
        let mut all = room.messages(["a", "b"]).to_vec();
        all.extend(room.keyed(["c", "d"]));
        for _ in 0..2 {
            assert_eq!(room.append(&all).await, ids(&all), "the ids of an append that may be repeated");
        }
        room.check("messages with the same ids are stored once", &all).await;

        // After a timeout, for example, old and new messages may come together.
        all.extend(room.messages(["e"]));
        all.extend(room.keyed(["f"]));
        assert_eq!(room.append(&all[1..]).await, ids(&all[1..]), "the ids of old and new messages");
        room.check("messages with the same ids are stored once, next to new ones", &all).await;
    }

    async fn a_repeated_key_has_the_id_of_the_first_message(&self) {
        let mut room = self.room();
        let first = room.keyed(["a", "b", "c"]);
        room.append(&first).await;
        let again = room.message("sent again").with_key(first[1].key().unwrap_or_default());
        let [new] = room.keyed(["d"]);
        let plain = room.message("without a key");
        let appended = [again.clone(), new.clone(), plain.clone()];
        let expected = [first[1].id(), new.id(), plain.id()];
        for _ in 0..2 {
            assert_eq!(
                room.append(&appended).await,
                expected,
                "the ids, the first one of which is that of `b`"
            );
        }
        assert_eq!(room.append(&[again]).await, [first[1].id()], "the id of `b`, for a message with its key");
        let [a, b, c] = first;
        room.check("messages with the same key are stored once", &[a, b, c, new, plain]).await;
    }

    async fn a_key_occurs_once_in_an_append(&self) {
        let mut room = self.room();
        let [first] = room.keyed(["a"]);
        let second = room.message("sent again").with_key(first.key().unwrap_or_default());
        let plain = [room.message("without a key"), room.message("without a key")];
        let appended = [first.clone(), second, plain[0].clone(), plain[1].clone()];
        let expected = [first.id(), first.id(), plain[0].id(), plain[1].id()];
        assert_eq!(
            room.append(&appended).await,
            expected,
            "the ids of two messages with the same key in one append"
        );
        let [third, fourth] = plain;
        room.check(
            "of two messages with the same key in one append, the first is stored",
            &[first, third, fourth],
        )
        .await;
    }

    async fn rooms_are_independent(&self) {
        let (mut one, other) = (self.room(), self.room());
        let messages = one.keyed(["a", "b"]);
        for room in [&one, &other] {
            assert_eq!(
                room.append(&messages).await,
                ids(&messages),
                "the ids, which are not used in this room yet"
            );
        }
        let more = one.messages(["c"]);
        one.append(&more).await;
        other.check("rooms may have messages with the same ids and keys", &messages).await;
    }

    async fn an_append_may_have_lower_ids_than_those_before(&self) {
        let mut room = self.room();
        let [a, b, c, d] = room.keyed(["a", "b", "c", "d"]);
        // As two processes do that do not know each other.
        room.append(&[b.clone(), d.clone()]).await;
        assert_eq!(
            room.append(&[a.clone(), c.clone()]).await,
            [a.id(), c.id()],
            "lower ids than those before"
        );
        room.check("messages are ordered by their ids, not by their appends", &[a, b, c, d]).await;
    }

    async fn an_append_with_the_id_of_another_message_fails_as_a_whole(&self) {
        let mut room = self.room();
        let [before, taken, after] = room.messages(["before", "taken", "after"]);
        let stored = [taken.clone()];
        room.append(&stored).await;
        let other = StoredMessage::new(taken.id(), r#"{"event":"message","message":"other"}"#);
        let with_key = other.clone().with_key("key");
        for other in [other, with_key] {
            let appended = [before.clone(), other, after.clone()];
            assert!(
                room.try_append(&appended).await.is_err(),
                "an append must fail if another message has the id of one of its messages"
            );
            room.check("an append that fails stores nothing", &stored).await;
        }
        room.append(&[before.clone(), after.clone()]).await;
        room.check("after an append that has failed, others succeed", &[before, taken, after]).await;
    }
}
