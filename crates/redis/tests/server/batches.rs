//! Batches of messages that are stored before they are published.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower_chat_rooms_redis::{BatchMessage, BatchOutcome, BatchStart, PublishError, Published};

use crate::rooms::nodes;
use crate::support::{Server, TestNode, member};

/// Begins a batch: now, or when the other one that is under way has ended.
async fn begin(node: &TestNode, batch: &str, len: usize) -> u64 {
    let mut floor = None;
    loop {
        match node.begin_batch("r", batch, len, floor).await.unwrap() {
            BatchStart::Begun(first) => return first,
            BatchStart::NeedsFloor => floor = Some(7),
            _ => sleep(Duration::from_millis(5)).await,
        }
    }
}

fn message(key: &str, id: u64) -> BatchMessage {
    BatchMessage::new(key, id, key.to_owned()).member("ann")
}

async fn finish(node: &TestNode, batch: &str, messages: Vec<BatchMessage>) -> Vec<Published> {
    node.finish_batch("r", batch, &BatchOutcome::new(messages)).await.unwrap()
}

#[tokio::test]
async fn one_batch_of_a_room_is_under_way() {
    let server = Server::start().await;
    let [a, b] = nodes(&server).await;
    a.enter("r", member("ann"), None).await.unwrap();
    b.enter("r", member("bob"), None).await.unwrap();
    assert!(b.begin_batch("nobody", "0", 1, None).await.is_err());
    assert_eq!(a.begin_batch("r", "1", 2, None).await.unwrap(), BatchStart::NeedsFloor);
    let first = begin(&a, "1", 2).await;
    assert_eq!(begin(&a, "1", 2).await, first, "the same call again");
    assert_eq!(b.begin_batch("r", "2", 1, None).await.unwrap(), BatchStart::Busy);
    assert_eq!(a.place("r", None).await.unwrap().published, Some(first - 1));
    let published = finish(&a, "1", vec![message("x", first), message("y", first + 1)]).await;
    assert_eq!(published.iter().map(|one| one.id).collect::<Vec<_>>(), [first, first + 1]);
    assert!(published.iter().all(|one| !one.is_repeat));
    // The answer was lost.
    let again = finish(&a, "1", vec![message("x", first), message("y", first + 1)]).await;
    assert_eq!(again, published);
    assert!(a.begin_batch("r", "1", 2, None).await.is_err(), "it has ended");
    // The other one has waited, and comes first.
    assert_eq!(a.begin_batch("r", "3", 1, None).await.unwrap(), BatchStart::Busy);
    let second = begin(&b, "2", 1).await;
    assert!(second > first + 1);
    let published = finish(&b, "2", vec![message("z", second)]).await;
    b.until_heard("r", published[0].stamp).await;
    assert_eq!(b.bodies("r"), ["+bob", "x", "y", "z"]);
    let place = a.place("r", None).await.unwrap();
    assert_eq!(place.position, Some((published[0].stamp.epoch, published[0].stamp.seq)));
    assert_eq!(place.published, Some(second));
}

#[tokio::test]
async fn ids_are_above_the_floor() {
    let server = Server::start().await;
    let [a] = nodes(&server).await;
    a.enter("r", member("ann"), None).await.unwrap();
    let future = (1 << 53) - 1000;
    let start = a.begin_batch("r", "1", 3, Some(future)).await.unwrap();
    assert_eq!(start, BatchStart::Begun(future + 1));
    finish(&a, "1", Vec::new()).await;
    let start = a.begin_batch("r", "2", 1, None).await.unwrap();
    assert_eq!(start, BatchStart::Begun(future + 4));
}

/// A batch ends by itself if its node is gone. What the store has of it was not published.
#[tokio::test]
async fn a_batch_that_is_not_prolonged_ends() {
    let server = Server::start().await;
    let [a, b] = nodes(&server).await;
    a.enter("r", member("ann"), None).await.unwrap();
    let first = begin(&a, "1", 2).await;
    finish(&a, "1", vec![message("x", first)]).await;
    let lost = begin(&a, "2", 2).await;
    let since = Instant::now();
    let next = begin(&b, "3", 3).await;
    assert!(since.elapsed() > Duration::from_secs(2), "{:?}", since.elapsed());
    assert!(next > lost + 1);
    // The node was only slow.
    let late = a.finish_batch("r", "2", &BatchOutcome::new([message("y", lost)])).await;
    assert_eq!(late, Err(PublishError::Unavailable));
    // Its messages are sent again.
    let again = vec![message("y", lost).known(), message("x", first).known(), message("new", next + 2)];
    let published = finish(&b, "3", again).await;
    let outcome: Vec<_> = published.iter().map(|one| (one.id, one.is_repeat)).collect();
    assert_eq!(outcome, [(lost, false), (first, true), (next + 2, false)]);
    a.until_body("r", "new").await;
    assert_eq!(a.bodies("r"), ["+ann", "x", "y", "new"]);
    // A client that has received `x`, but not `new`, may have missed `y`.
    for (after, late) in [(first, vec![]), (lost, vec![lost]), (next - 1, vec![lost]), (next, vec![])] {
        assert_eq!(b.place("r", Some(after)).await.unwrap().late, Some(late), "{after}");
    }
}

#[tokio::test]
async fn what_could_not_be_stored_can_be_sent_again() {
    let server = Server::start().await;
    let [a] = nodes(&server).await;
    a.enter("r", member("ann"), None).await.unwrap();
    let first = begin(&a, "1", 3).await;
    let outcome = BatchOutcome::new([message("y", first + 1)]).failed();
    a.finish_batch("r", "1", &outcome).await.unwrap();
    let next = begin(&a, "2", 4).await;
    // The store has the first one of them nevertheless.
    let again = vec![message("x", first).known(), message("y", first + 1).known(), message("z", next + 2)];
    let published = finish(&a, "2", again).await;
    let outcome: Vec<_> = published.iter().map(|one| (one.id, one.is_repeat)).collect();
    assert_eq!(outcome, [(first, false), (first + 1, true), (next + 2, false)]);
}

/// A client repeats a message only if it was not told that it was published. A host may do it always.
#[tokio::test]
async fn of_what_redis_has_forgotten_only_messages_of_members_are_published() {
    let server = Server::start().await;
    let [a] = nodes(&server).await;
    a.enter("r", member("ann"), None).await.unwrap();
    begin(&a, "1", 4).await;
    let of_host = BatchMessage::new("host", 6, "host").known();
    let published = finish(&a, "1", vec![message("x", 5).known(), of_host, message("x", 5).known()]).await;
    let outcome: Vec<_> = published.iter().map(|one| (one.id, one.is_repeat)).collect();
    assert_eq!(outcome, [(5, false), (6, true), (5, true)]);
    let unknown = a.place("s", Some(9)).await.unwrap();
    assert_eq!((unknown.position, unknown.published, unknown.late), (None, None, Some(vec![])));
}
