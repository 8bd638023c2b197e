//! A server that takes over from another one, and lacks the latest of what that one has confirmed.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tower_chat_rooms_redis::{Event, ResetReason, Settings};

use crate::support::{Server, TestNode, member};

const MINUTE: Duration = Duration::from_secs(60);
/// For what takes a moment, on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(30);

async fn node(server: &Server, name: &str) -> TestNode {
    TestNode::connect(Settings::new(server.url()).node_name(name).lease(MINUTE)).await
}

/// Starts the server again with what it had when it was told to save.
async fn fail_over(server: &mut Server) {
    server.kill();
    server.spawn().await;
}

async fn members(node: &TestNode) -> BTreeSet<String> {
    let roster = node.roster("r", 0, 1000).await;
    roster.map_or_else(|_| BTreeSet::new(), |r| r.members.into_iter().map(|m| m.member.into()).collect())
}

/// Rule: the epoch changes, because clients would take all that follows for older. Each node makes the members and users
/// of Redis those that it has.
#[tokio::test]
async fn nodes_agree_after_a_failover_to_a_lagging_replica() {
    let mut server = Server::start().await;
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    let both = [&a, &b];
    for n in 0..20 {
        both[n % 2].enter("r", member(&format!("m{n}")).unique_as(format!("{n}")), None).await.unwrap();
    }
    assert!(a.begin_user("old", "1", MINUTE).await.unwrap());
    a.enter("r", member("ann").hidden(), None).await.unwrap();
    let _: () = server.command(&["SAVE"]).await;
    for n in 0..10 {
        both[n % 2].leave("r", &format!("m{n}"), None).await.unwrap();
        let new = member(&format!("n{n}")).unique_as(format!("{n}"));
        both[n % 2].enter("r", new, None).await.unwrap();
    }
    assert!(a.end_user("old", "1").await.unwrap() && a.begin_user("new", "2", MINUTE).await.unwrap());
    a.leave("r", "ann", None).await.unwrap();
    let before = b.publish("r", None, None, b"before").await.unwrap().stamp;
    a.until_heard("r", before).await;
    fail_over(&mut server).await;
    for node in both {
        node.until("that it is connected", |_| node.degraded_since().is_none()).await;
    }
    let expected: BTreeSet<String> =
        (0..10).map(|n| format!("n{n}")).chain((10..20).map(|n| format!("m{n}"))).collect();
    let agree = async {
        while members(&a).await != expected || a.user_sessions("old").await != Ok(Vec::new()) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let is_in_time = timeout(PATIENCE, agree).await.is_ok();
    assert!(is_in_time, "{:?}, {:?}", members(&a).await, a.user_sessions("old").await);
    assert_eq!(a.user_sessions("new").await.unwrap().len(), 1);
    let end = b.publish("r", Some("n1"), None, b"end").await.unwrap().stamp;
    assert_ne!(end.epoch, before.epoch);
    assert_eq!(end.num, 20);
    for node in both {
        node.until_heard("r", end).await;
        let reset = |event: &Event| matches!(event, Event::Reset { reason: ResetReason::EpochChanged, .. });
        assert!(node.heard().iter().any(reset));
        let lost = |event: &Event| matches!(event, Event::MemberLost { .. } | Event::EnteredAgain { .. });
        assert!(!node.heard().iter().any(lost));
    }
}
