//! Calls at the same time, and calls that are dropped.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::task::{JoinSet, yield_now};

use super::{Suite, ids};
use crate::store::PageRange;

impl Suite {
    pub(super) async fn check_concurrency(&self) {
        self.rooms_do_not_disturb_each_other().await;
        self.the_same_append_twice_at_the_same_time_is_stored_once().await;
        self.readers_see_whole_appends().await;
        self.a_dropped_append_can_be_repeated().await;
    }

    async fn rooms_do_not_disturb_each_other(&self) {
        const ROOMS: usize = 20;
        const APPENDS: usize = 10;
        let mut rooms = JoinSet::new();
        for _ in 0..ROOMS {
            let mut room = self.room();
            rooms.spawn(async move {
                let mut all = Vec::new();
                for _ in 0..APPENDS {
                    let [a, b] = room.messages(["a", "b"]);
                    let [c] = room.keyed(["c"]);
                    let appended = [a, b, c];
                    assert_eq!(room.append(&appended).await, ids(&appended), "the ids of new messages");
                    all.extend(appended);
                }
                room.check("many rooms can be used at the same time", &all).await;
            });
        }
        rooms.join_all().await;
    }

    async fn the_same_append_twice_at_the_same_time_is_stored_once(&self) {
        for _ in 0..20 {
            let mut room = self.room();
            let mut messages = room.keyed(["a", "b"]).to_vec();
            messages.extend(room.messages(["c"]));
            let expected = ids(&messages);
            let (room, messages) = (Arc::new(room), Arc::new(messages));
            let mut calls = JoinSet::new();
            for _ in 0..3 {
                let (room, messages) = (room.clone(), messages.clone());
                calls.spawn(async move { room.try_append(&messages).await });
            }
            // Those that were not the first may fail, but say nothing wrong.
            let answers = calls.join_all().await;
            assert!(
                answers.iter().any(Result::is_ok),
                "one of the same appends at the same time must succeed"
            );
            for answer in answers.into_iter().flatten() {
                assert_eq!(answer, expected, "the ids of the same appends at the same time");
            }
            room.check("the same append, twice at the same time, is stored once", &messages).await;
        }
    }

    async fn readers_see_whole_appends(&self) {
        const APPENDS: usize = 20;
        let mut room = self.room();
        let appends: Vec<_> = (0..APPENDS).map(|_| room.messages(["a", "b", "c"])).collect();
        let room = Arc::new(room);
        let writer = tokio::spawn({
            let room = room.clone();
            async move {
                for appended in &appends {
                    room.append(appended).await;
                }
            }
        });
        let mut seen = 0;
        while seen < 3 * APPENDS {
            let page = room.page(PageRange::Latest, 3 * APPENDS).await;
            assert!(
                page.len() % 3 == 0 && page.len() >= seen,
                "a page has a part of an append, or loses messages"
            );
            seen = page.len();
            if writer.is_finished() {
                break;
            }
            yield_now().await;
        }
        writer.await.expect("the writer does not panic");
        let page = room.page(PageRange::Latest, 3 * APPENDS).await;
        assert_eq!(page.len(), 3 * APPENDS, "the number of messages after all appends");
    }

    async fn a_dropped_append_can_be_repeated(&self) {
        for polls in 0..20 {
            let mut room = self.room();
            let mut messages = room.keyed(["a"]).to_vec();
            messages.extend(room.messages(["b", "c"]));
            drop_after(polls, room.try_append(&messages)).await;
            let stored = room.page(PageRange::Latest, 10).await;
            assert!(
                stored.is_empty() || stored == messages,
                "a dropped append is stored in part: {stored:?}"
            );
            assert_eq!(
                room.append(&messages).await,
                ids(&messages),
                "the ids of an append that was dropped before"
            );
            room.check("an append that was dropped can be repeated", &messages).await;
        }
    }
}

/// Polls a future a few times and drops it.
async fn drop_after(polls: usize, future: impl Future) {
    let mut future = pin!(future);
    for _ in 0..polls {
        let is_ready = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await;
        if is_ready {
            return;
        }
        yield_now().await;
    }
}
