//! What nodes that begin to hear a room read from its log.

use std::time::Duration;

use tower_chat_rooms_redis::{Event, EventKind, LogNeeds, LoggedEvent, Settings, Stamp};

use crate::support::{Data, Server, TestNode, member};

const ALL: LogNeeds =
    LogNeeds { events: 100, bytes: 1 << 20, age: Duration::from_secs(60), message_id_window: Duration::ZERO };

fn bodies(log: &[LoggedEvent]) -> Vec<&str> {
    log.iter().map(|logged| std::str::from_utf8(&logged.event.body).unwrap()).collect()
}

async fn say(node: &TestNode, body: &str) -> Stamp {
    node.publish("r", None, None, body.as_bytes()).await.unwrap().stamp
}

#[tokio::test]
async fn the_history_is_bounded_and_ends_with_the_stamp() {
    let server = Server::start().await;
    let [a, b] = [(); 2].map(|()| Settings::new(server.url()));
    let (a, b) = (TestNode::connect(a).await, TestNode::connect(b).await);
    a.enter("r", member("ann"), None).await.unwrap();
    let silent = a.enter("r", member("spy").silent(), None).await.unwrap();
    let mut stamps = Vec::new();
    for body in ["one", "two", "three", "four"] {
        stamps.push(say(&a, body).await);
    }
    let history = async |until: Stamp, needs| b.history("r", until, needs).await.unwrap();
    let all = history(stamps[2], ALL).await;
    assert_eq!(bodies(&all), ["+ann", "one", "two", "three"]);
    assert_eq!((all[0].event.kind, all[0].event.member.as_deref()), (EventKind::Enter, Some("ann")));
    assert!(all.iter().all(|logged| logged.age < Duration::from_secs(30)));
    assert_eq!(bodies(&history(silent, ALL).await), ["+ann"]);
    assert_eq!(bodies(&history(stamps[3], LogNeeds { events: 2, ..ALL }).await), ["three", "four"]);
    // A message has 44 bytes besides its member and body.
    assert_eq!(bodies(&history(stamps[3], LogNeeds { bytes: 106, ..ALL }).await), ["three", "four"]);
    let other = Stamp { epoch: tower_chat_rooms_redis::Epoch::from_u64(1), ..silent };
    assert_eq!(bodies(&history(other, ALL).await), [] as [&str; 0]);
    // More than a page of the script.
    for n in 0..200 {
        say(&a, &n.to_string()).await;
    }
    let last = say(&a, "last").await;
    let log = history(last, LogNeeds { events: 150, ..ALL }).await;
    assert_eq!(
        (log.len(), &log[0].event.body[..], &log[149].event.body[..]),
        (150, &b"51"[..], &b"last"[..])
    );
    assert_eq!(b.history("empty", last, ALL).await.unwrap(), []);
}

#[tokio::test]
async fn the_history_has_no_events_that_are_too_old() {
    let server = Server::start().await;
    let a = TestNode::connect(Settings::new(server.url())).await;
    a.enter("r", member("ann"), None).await.unwrap();
    let old = say(&a, "old").await;
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    let age = a.history("r", old, ALL).await.unwrap()[1].age;
    assert!(age >= Duration::from_millis(999), "{age:?}");
    let new = say(&a, "new").await;
    let until_new = Duration::from_millis(999);
    let log = a.history("r", new, LogNeeds { age: until_new, ..ALL }).await.unwrap();
    assert!(!bodies(&log).contains(&"old"));
}

#[tokio::test]
async fn logs_keep_what_is_needed() {
    let server = Server::start().await;
    let a = TestNode::connect(Settings::new(server.url())).await;
    a.keep_logs(LogNeeds { events: 2_000, ..LogNeeds::default() });
    let first = a.enter("r", member("ann"), None).await.unwrap();
    let mut last = first;
    for n in 0..2_500 {
        last = say(&a, &n.to_string()).await;
    }
    let log = a.history("r", last, LogNeeds { events: 2_000, ..ALL }).await.unwrap();
    assert_eq!(log.len(), 2_000);
}

/// Rule: the log of an earlier run of the server is void: nodes may have delivered something else meanwhile.
#[tokio::test]
async fn the_history_has_no_events_of_an_earlier_run_of_the_server() {
    let mut server = Server::start_with(Data::Everything).await;
    let a = TestNode::connect(Settings::new(server.url())).await;
    a.enter("r", member("ann"), None).await.unwrap();
    say(&a, "before").await;
    server.kill();
    server.spawn().await;
    a.until("a reset", |heard| heard.iter().any(|event| matches!(event, Event::Reset { .. }))).await;
    let after = say(&a, "after").await;
    assert_eq!(bodies(&a.history("r", after, ALL).await.unwrap()), ["after"]);
    assert_eq!(a.log_after("r", after.epoch, 0, 10).await.unwrap().unwrap().len(), 1);
    assert_eq!(server.command::<u64>(&["XLEN", "{chat}:log:r"]).await, 1);
}
