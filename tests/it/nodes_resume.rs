//! Clients that come back on another node: the other members do not notice.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;
use tower_chat_rooms::{
    Access, Admission, ChatRooms, Denied, EnterRequest, History, Recovery, RoomPolicy, SharedBroker,
    UniqueNames, User,
};

use crate::nodes::names;
use crate::support::{
    Client, EventLog, Next, RESUME_WINDOW, V1Client, assert_empty, enter_frame, leave_frame,
    message_with_cid, resume_frame, resumed_and_recovered, rooms_in, run_other_tasks, unlimited,
};
use crate::users::Recorder;

/// Nodes that share a broker, and what their hosts are told.
struct Cluster<const N: usize> {
    broker: SharedBroker,
    nodes: [ChatRooms; N],
    numbers: [u32; N],
    log: EventLog,
}

impl<const N: usize> Cluster<N> {
    fn new() -> Cluster<N> {
        let (broker, log, mut numbers) = (SharedBroker::new(), EventLog::default(), [0; N]);
        let nodes = std::array::from_fn(|n| {
            let recovery = Recovery::default().resume_window(RESUME_WINDOW).history(History::last(100));
            let node = broker.node();
            numbers[n] = node.number();
            unlimited().recovery(recovery).events(log.hook()).broker(node).build().unwrap()
        });
        Cluster { broker, nodes, numbers, log }
    }

    /// A node crashes: its connections break, and what it still does has no effect.
    async fn crash(&self, node: usize, clients: impl IntoIterator<Item = &mut V1Client>) {
        self.broker.remove_node(self.numbers[node]);
        for client in clients {
            client.connection.task.abort();
        }
        run_other_tasks().await;
    }

    /// Asserts that nothing is left, and ends the nodes.
    async fn end(self) {
        run_other_tasks().await;
        assert_eq!((self.broker.members(), self.broker.sessions()), (0, 0));
        for rooms in self.nodes {
            assert_empty(&rooms);
            rooms.shutdown().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_comes_back_on_another_node() {
    let cluster = Cluster::new();
    let [one, other] = &cluster.nodes;
    let mut ann = V1Client::enter(one, "ann").await;
    let mut bob = V1Client::enter(other, "bob").await;
    assert_eq!(ann.next().await["num"], 2);
    ann.disconnect().await;
    bob.send_message("missed").await;
    bob.expect_message("missed").await;
    let entered = ann.reconnect(other).await;
    assert_eq!(resumed_and_recovered(&entered), (true, true), "{entered}");
    assert_eq!((&entered["num"], names(&entered)), (&json!(2), vec!["ann", "bob"]));
    ann.expect_message("missed").await;
    ann.send_message("seen").await;
    ann.expect_message("seen").await;
    bob.expect_message("seen").await;
    assert_eq!(one.check_consistency().members, 0);
    assert_eq!(cluster.log.take_moves(), ["+ ann r 1", "+ bob r 2"]);
    ann.connection.close().await;
    assert_eq!(bob.next().await["event"], "out");
    assert_eq!(cluster.log.take_moves(), ["- ann r 1 closed by the client"]);
    bob.connection.close().await;
    cluster.end().await;
}

/// The node has not heard the room before.
#[tokio::test(start_paused = true)]
async fn a_client_comes_back_on_a_node_that_does_not_know_its_rooms() {
    let cluster = Cluster::new();
    let [one, other, third] = &cluster.nodes;
    let mut bob = V1Client::enter(other, "bob").await;
    let mut ann = V1Client::enter(one, "ann").await;
    assert_eq!(bob.next().await["name"], "ann");
    for back_on in [third, one, third] {
        ann.disconnect().await;
        bob.send_message("missed").await;
        bob.expect_message("missed").await;
        let entered = ann.reconnect(back_on).await;
        assert_eq!(resumed_and_recovered(&entered), (true, true), "{entered}");
        assert_eq!((&entered["num"], names(&entered)), (&json!(2), vec!["bob", "ann"]));
        ann.expect_message("missed").await;
        bob.send_message("next").await;
        bob.expect_message("next").await;
        ann.expect_message("next").await;
    }
    // A room that it enters on its new node moves, too.
    ann.connection.send(enter_frame("ann", "s")).await;
    assert_eq!(ann.connection.next_of("entered").await["roomId"], "s");
    assert_eq!(ann.connection.next_of("enter").await["roomId"], "s");
    let token = ann.resume_tokens[0].clone();
    ann.connection.disconnect().await;
    let (mut ann, _) = Client::connect_v1(other, Admission::anonymous()).await;
    assert_eq!(rooms_in(&ann.resume([&token]).await), ["r", "s"]);
    ann.close().await;
    assert_eq!(bob.next().await["event"], "out");
    bob.connection.close().await;
    assert_eq!(cluster.log.take_moves().len(), 6);
    cluster.end().await;
}

/// A node that was cut off for longer than the resume window does not have its sessions any more.
#[tokio::test(start_paused = true)]
async fn a_client_whose_session_is_gone_comes_back() {
    let cluster = Cluster::new();
    let [one, other] = &cluster.nodes;
    let mut bob = V1Client::enter(other, "bob").await;
    let mut ann = V1Client::enter(one, "ann").await;
    assert_eq!(bob.next().await["event"], "enter");
    cluster.broker.remove_sessions(1);
    assert_eq!(ann.connection.close_code().await, 1013);
    assert_eq!(bob.next().await["event"], "out");
    let entered = ann.reconnect(one).await;
    assert_eq!((&entered["resumed"], &entered["num"]), (&json!(false), &json!(2)));
    assert_eq!(bob.next().await["event"], "enter");
    for client in [ann, bob] {
        client.connection.close().await;
    }
    cluster.end().await;
}

/// The old node takes the connection for open until it hears of the new one.
#[tokio::test(start_paused = true)]
async fn the_old_connection_is_replaced() {
    let cluster = Cluster::new();
    let [one, other] = &cluster.nodes;
    let mut ann = V1Client::enter(one, "ann").await;
    let old = std::mem::replace(&mut ann.connection, Client::disconnected().await);
    let mut bob = V1Client::enter(one, "bob").await;
    let entered = ann.reconnect(other).await;
    assert_eq!((&entered["resumed"], &entered["num"]), (&json!(true), &json!(2)));
    let mut old = old;
    // What it still says is ignored.
    let _ = futures_util::SinkExt::send(
        &mut old.ws,
        tokio_tungstenite::tungstenite::Message::text(message_with_cid("r", "late", "c1").to_string()),
    )
    .await;
    assert_eq!(old.close_code().await, 4503);
    ann.send_message("here").await;
    bob.expect_message("here").await;
    ann.connection.close().await;
    assert_eq!(bob.next().await["event"], "out");
    bob.connection.close().await;
    cluster.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_of_a_crashed_node_comes_back_elsewhere() {
    let cluster = Cluster::new();
    let [one, other] = &cluster.nodes;
    let mut ann = V1Client::enter(one, "ann").await;
    let mut bob = V1Client::enter(other, "bob").await;
    assert_eq!(ann.next().await["name"], "bob");
    let plain = Client::enter(one, "plain", "r").await;
    assert_eq!(bob.next().await["name"], "plain");
    plain.task.abort();
    cluster.crash(0, [&mut ann]).await;
    // Nobody can come back as this one.
    let out = bob.next().await;
    assert_eq!((&out["event"], &out["name"], &out["num"]), (&json!("out"), &json!("plain"), &json!(2)));
    bob.answer_heartbeats_for(Duration::from_secs(2)).await;
    bob.send_message("missed").await;
    bob.expect_message("missed").await;
    let entered = ann.reconnect(other).await;
    assert_eq!(resumed_and_recovered(&entered), (true, true));
    assert_eq!((&entered["num"], names(&entered)), (&json!(2), vec!["ann", "bob"]));
    for (event, name) in [("enter", "plain"), ("out", "plain"), ("message", "bob")] {
        let missed = ann.next().await;
        assert_eq!((&missed["event"], &missed["name"]), (&json!(event), &json!(name)));
    }
    ann.connection.close().await;
    assert_eq!(bob.next().await["event"], "out");
    bob.connection.close().await;
    assert_eq!((cluster.broker.members(), cluster.broker.sessions()), (0, 0));
    other.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_of_a_crashed_node_that_does_not_come_back_leaves_once() {
    let cluster = Cluster::new();
    let [one, other] = &cluster.nodes;
    let mut ann = V1Client::enter(one, "ann").await;
    let mut bob = V1Client::enter(other, "bob").await;
    assert_eq!(ann.next().await["name"], "bob");
    cluster.crash(0, [&mut ann]).await;
    bob.answer_heartbeats_for(Duration::from_secs(1)).await;
    cluster.broker.end_resume_windows();
    let out = bob.next().await;
    assert_eq!((&out["event"], &out["name"], &out["num"]), (&json!("out"), &json!("ann"), &json!(1)));
    let (mut late, _) = Client::connect_v1(other, Admission::anonymous()).await;
    assert_eq!(late.resume(&ann.resume_tokens).await, json!({"event": "resumed", "rooms": []}));
    late.close().await;
    bob.answer_heartbeats_for(Duration::from_secs(1)).await;
    bob.connection.close().await;
    assert_eq!((cluster.broker.members(), cluster.broker.sessions()), (0, 0));
    other.shutdown().await;
}

/// The window of a session that moved and lost its connection again.
#[tokio::test(start_paused = true)]
async fn a_session_that_moved_ends_with_its_window() {
    let cluster = Cluster::new();
    let [one, other] = &cluster.nodes;
    let mut ann = V1Client::enter(one, "ann").await;
    let mut bob = V1Client::enter(one, "bob").await;
    ann.reconnect(other).await;
    ann.disconnect().await;
    bob.answer_heartbeats_for(RESUME_WINDOW - Duration::from_secs(1)).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(bob.next().await["event"], "out");
    bob.answer_heartbeats_for(RESUME_WINDOW).await;
    bob.connection.close().await;
    let moves = cluster.log.take_moves();
    assert_eq!(
        moves,
        ["+ ann r 1", "+ bob r 2", "- ann r 1 connection lost", "- bob r 0 closed by the client"]
    );
    cluster.end().await;
}

#[tokio::test(start_paused = true)]
async fn only_its_user_can_resume_a_session() {
    let cluster = Cluster::new();
    let [one, other] = &cluster.nodes;
    let user = |id: &str| Admission::user(User::new(id));
    let (ann, welcome) = Client::enter_v1(one, user("u")).await;
    let tokens = [welcome["resume"].clone()];
    for thief in [user("v"), Admission::anonymous()] {
        let (mut thief, _) = Client::connect_v1(other, thief).await;
        assert_eq!(thief.resume(&tokens).await, json!({"event": "resumed", "rooms": []}));
        thief.close().await;
    }
    ann.disconnect().await;
    let (mut ann, welcome) = Client::connect_v1(other, user("u")).await;
    assert_eq!(rooms_in(&ann.resume(&tokens).await), ["r"]);
    assert!(other.is_online("u"));
    ann.disconnect().await;
    // A token works once.
    let (mut ann, _) = Client::connect_v1(one, user("u")).await;
    assert_eq!(rooms_in(&ann.resume(&tokens).await), [""; 0]);
    ann.close().await;
    let (mut ann, _) = Client::connect_v1(one, user("u")).await;
    assert_eq!(rooms_in(&ann.resume([&welcome["resume"]]).await), ["r"]);
    ann.close().await;
    cluster.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_is_published_once_whichever_node_gets_it() {
    let cluster = Cluster::new();
    let [one, other] = &cluster.nodes;
    let mut ann = V1Client::enter(one, "ann").await;
    let mut bob = V1Client::enter(other, "bob").await;
    assert_eq!(ann.next().await["name"], "bob");
    ann.connection.send(message_with_cid("r", "once", "c1")).await;
    let ack = ann.connection.next_of("ack").await;
    bob.expect_message("once").await;
    ann.disconnect().await;
    ann.reconnect(other).await;
    ann.connection.send(message_with_cid("r", "once", "c1")).await;
    assert_eq!(ann.connection.next_of("ack").await, ack);
    ann.connection.send(message_with_cid("r", "next", "c2")).await;
    bob.expect_message("next").await;
    ann.connection.close().await;
    assert_eq!(bob.next().await["event"], "out");
    bob.connection.close().await;
    let messages = cluster.log.take();
    assert_eq!(messages.iter().filter(|line| line.starts_with("ann r:")).count(), 2, "{messages:?}");
    cluster.end().await;
}

/// A session has the token of its latest connection, wherever that was.
#[tokio::test(start_paused = true)]
async fn the_token_changes_with_each_connection() {
    let cluster = Cluster::new();
    let [one, other] = &cluster.nodes;
    let mut ann = V1Client::enter(one, "ann").await;
    let first = ann.resume_tokens.clone();
    ann.disconnect().await;
    ann.reconnect(one).await;
    ann.disconnect().await;
    let (mut stranger, _) = Client::connect_v1(other, Admission::anonymous()).await;
    assert_eq!(rooms_in(&stranger.resume(&first).await), [""; 0]);
    stranger.close().await;
    assert_eq!(ann.reconnect(other).await["resumed"], true);
    ann.disconnect().await;
    assert_eq!(ann.reconnect(other).await["resumed"], true);
    ann.connection.close().await;
    cluster.end().await;
}

/// The client has not heard whether its resume has worked.
#[tokio::test(start_paused = true)]
async fn a_resume_whose_answer_is_lost_is_repeated_anywhere() {
    for again in 0..3 {
        let cluster = Cluster::new();
        let nodes: &[ChatRooms; 3] = &cluster.nodes;
        let mut ann = V1Client::enter(&nodes[0], "ann").await;
        ann.disconnect().await;
        for _ in 0..2 {
            let (mut lost, welcome) = Client::connect_v1(&nodes[1], Admission::anonymous()).await;
            lost.send(resume_frame(&ann.resume_tokens)).await;
            ann.resume_tokens.push(welcome["resume"].clone());
            lost.disconnect().await;
        }
        let entered = ann.reconnect(&nodes[again]).await;
        assert_eq!((&entered["resumed"], &entered["num"]), (&json!(true), &json!(1)), "{again}");
        ann.connection.close().await;
        cluster.end().await;
    }
}

/// The client has lost a connection while that waited for its session, and has resumed it on another node.
#[tokio::test(start_paused = true)]
async fn a_lost_connection_does_not_enter_the_rooms_of_a_session_that_is_elsewhere() {
    let cluster = Cluster::new();
    let nodes: &[ChatRooms; 3] = &cluster.nodes;
    let mut bob = V1Client::enter(&nodes[0], "bob").await;
    let (mut ann, first) = Client::enter_v1(&nodes[0], Admission::anonymous()).await;
    bob.expect_message("ann").await;
    ann.send(enter_frame("ann", "s")).await;
    ann.next_of("enter").await;
    ann.disconnect().await;
    let (mut lost, second) = Client::connect_v1(&nodes[1], Admission::anonymous()).await;
    let (mut new, _) = Client::connect_v1(&nodes[2], Admission::anonymous()).await;
    cluster.broker.set_available(false);
    let enters = || ["r", "s"].map(|room| enter_frame("ann", room));
    // The other node is the first one to ask the broker.
    new.send(resume_frame([&first["resume"], &second["resume"]])).await;
    new.send_at_once(enters()).await;
    run_other_tasks().await;
    lost.send(resume_frame([&first["resume"]])).await;
    lost.send_at_once(enters()).await;
    run_other_tasks().await;
    drop(lost.ws);
    run_other_tasks().await;
    cluster.broker.set_available(true);
    lost.task.await.unwrap();
    assert_eq!(new.next_of("resumed").await["member"], first["connection"]);
    let entered = new.next_of("entered").await;
    assert_eq!((&entered["resumed"], &entered["num"]), (&json!(true), &json!(2)));
    bob.send_message("end").await;
    bob.expect_message("end").await;
    new.close().await;
    bob.connection.close().await;
    cluster.end().await;
}

/// Its connection is lost while the node takes over its session for that connection, and the node has not noticed.
#[tokio::test(start_paused = true)]
async fn a_client_that_comes_back_before_its_session_has_arrived_gets_it() {
    let cluster = Cluster::new();
    let [one, other] = &cluster.nodes;
    let (mut ann, first) = Client::enter_v1(one, Admission::anonymous()).await;
    let (mut lost, second) = Client::connect_v1(other, Admission::anonymous()).await;
    let (mut new, _) = Client::connect_v1(other, Admission::anonymous()).await;
    // The node reads both before it hears of the session.
    lost.send(resume_frame(&[first["resume"].clone()])).await;
    new.send(resume_frame(&[first["resume"].clone(), second["resume"].clone()])).await;
    let resumed = new.next_of("resumed").await;
    assert_eq!((&resumed["member"], rooms_in(&resumed)), (&first["connection"], vec!["r"]));
    assert_eq!(ann.close_code().await, 4503);
    new.close().await;
    lost.close().await;
    cluster.end().await;
}

/// A client with the tokens of two sessions continues one of them, and the other one ends.
#[tokio::test(start_paused = true)]
async fn a_client_leaves_no_second_session_on_another_node() {
    let cluster = Cluster::new();
    let [one, other, third] = &cluster.nodes;
    let (ann, first) = Client::enter_v1(one, Admission::anonymous()).await;
    let (again, second) = Client::enter_v1(other, Admission::anonymous()).await;
    let (mut new, _) = Client::connect_v1(third, Admission::anonymous()).await;
    let resumed = new.resume([&first["resume"], &second["resume"]]).await;
    assert_eq!((&resumed["member"], rooms_in(&resumed)), (&first["connection"], vec!["r"]));
    for mut old in [ann, again] {
        assert_eq!(old.close_code().await, 4503);
    }
    run_other_tasks().await;
    assert_eq!(cluster.broker.members(), 1);
    new.close().await;
    cluster.end().await;
}

#[tokio::test(start_paused = true)]
async fn while_the_broker_is_away_a_client_comes_back_later() {
    let cluster = Cluster::new();
    let [one, other] = &cluster.nodes;
    let mut ann = V1Client::enter(one, "ann").await;
    ann.disconnect().await;
    cluster.broker.set_available(false);
    // Neither another node nor its own can continue the session. It keeps all tokens, because each may be the right one.
    let mut attempts = Vec::new();
    for rooms in [other, one] {
        let (mut early, welcome) = Client::connect_v1(rooms, Admission::anonymous()).await;
        early.send(resume_frame(&ann.resume_tokens)).await;
        ann.resume_tokens.push(welcome["resume"].clone());
        attempts.push(early);
    }
    for mut early in attempts {
        assert_eq!(early.close_code().await, 1013);
    }
    cluster.broker.set_available(true);
    run_other_tasks().await;
    let entered = ann.reconnect(one).await;
    assert_eq!((&entered["resumed"], &entered["num"]), (&json!(true), &json!(1)));
    ann.connection.close().await;
    cluster.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_kick_reaches_a_session_that_has_moved() {
    let cluster = Cluster::new();
    let [one, other] = &cluster.nodes;
    let (ann, welcome) = Client::enter_v1(one, Admission::anonymous()).await;
    let id = welcome["connection"].as_str().unwrap().parse().unwrap();
    let (mut new, _) = Client::connect_v1(other, Admission::anonymous()).await;
    new.resume([&welcome["resume"]]).await;
    drop(ann);
    run_other_tasks().await;
    one.kick(id);
    assert_eq!(new.close_code().await, 4500);
    assert_eq!(cluster.log.take_moves(), ["+ ann r 1", "- ann r 0 kicked"]);
    cluster.end().await;
}

/// The old node has not heard yet that the session is gone.
#[tokio::test(start_paused = true)]
async fn what_the_old_node_does_meanwhile_has_no_effect() {
    for is_kicked in [true, false] {
        let cluster = Cluster::new();
        let [one, other] = &cluster.nodes;
        let (mut ann, welcome) = Client::enter_v1(one, Admission::anonymous()).await;
        let mut bob = V1Client::enter(one, "bob").await;
        let carl = V1Client::enter(other, "carl").await;
        assert_eq!(bob.next().await["name"], "carl");
        let id = welcome["connection"].as_str().unwrap().parse().unwrap();
        cluster.broker.set_delivering_to(cluster.numbers[0], false);
        let (mut new, _) = Client::connect_v1(other, Admission::anonymous()).await;
        assert_eq!(rooms_in(&new.resume([&welcome["resume"]]).await), ["r"]);
        match is_kicked {
            true => assert!(one.kick(id)),
            false => ann.send(leave_frame("r")).await,
        }
        run_other_tasks().await;
        cluster.broker.set_delivering_to(cluster.numbers[0], true);
        if is_kicked {
            // It was kicked from where it is.
            assert_eq!(new.close_code().await, 4500);
            assert_eq!(bob.next().await["event"], "out");
        } else {
            new.send(enter_frame("ann", "r")).await;
            let entered = new.next_of("entered").await;
            assert_eq!((&entered["resumed"], &entered["num"]), (&json!(true), &json!(3)));
            bob.answer_heartbeats_for(Duration::from_secs(1)).await;
            assert_eq!(one.members("r").len() + other.members("r").len(), 3);
            new.close().await;
            assert_eq!(bob.next().await["event"], "out");
        }
        let moves = cluster.log.take_moves();
        for client in [bob, carl] {
            client.connection.close().await;
        }
        if is_kicked {
            let of_ann: Vec<_> = moves.iter().filter(|line| line.contains(" ann ")).collect();
            assert_eq!(of_ann, ["+ ann r 1", "- ann r 2 kicked"]);
        }
        drop(ann);
        cluster.end().await;
    }
}

/// What its client sets on the old node has no effect, there neither.
#[tokio::test(start_paused = true)]
async fn a_state_that_is_set_where_the_member_is_no_longer_is_void() {
    let cluster = Cluster::new();
    let [one, other] = &cluster.nodes;
    let (mut ann, first) = Client::enter_v1(one, Admission::anonymous()).await;
    let bob = V1Client::enter(one, "bob").await;
    cluster.broker.set_delivering_to(cluster.numbers[0], false);
    let (mut new, _) = Client::connect_v1(other, Admission::anonymous()).await;
    assert_eq!(rooms_in(&new.resume([&first["resume"]]).await), ["r"]);
    ann.send(json!({"event": "state", "state": "void", "roomId": "r"})).await;
    run_other_tasks().await;
    cluster.broker.set_delivering_to(cluster.numbers[0], true);
    run_other_tasks().await;
    let (mut carl, _) = Client::connect_v1(one, Admission::anonymous()).await;
    carl.send(enter_frame("carl", "r")).await;
    let entered = carl.next_of("entered").await;
    let ann_there = entered["members"].as_array().unwrap().iter().find(|member| member["name"] == "ann");
    assert_eq!(ann_there.unwrap()["state"], Value::Null, "{entered}");
    for client in [new, carl, bob.connection] {
        client.close().await;
    }
    drop(ann);
    cluster.end().await;
}

/// The node has not heard that another one has the session, which its client has given up there.
#[tokio::test(start_paused = true)]
async fn a_session_that_has_moved_unnoticed_is_resumed_with_its_new_token_only() {
    let cluster = Cluster::new();
    let [one, other] = &cluster.nodes;
    let mut ann = V1Client::enter(one, "ann").await;
    let old_tokens = ann.resume_tokens.clone();
    ann.disconnect().await;
    cluster.broker.set_delivering_to(cluster.numbers[0], false);
    let (mut lost, welcome) = Client::connect_v1(other, Admission::anonymous()).await;
    lost.send(resume_frame(&old_tokens)).await;
    run_other_tasks().await;
    lost.disconnect().await;
    let (mut early, _) = Client::connect_v1(one, Admission::anonymous()).await;
    assert_eq!(rooms_in(&early.resume(&old_tokens).await), [""; 0]);
    early.close().await;
    ann.resume_tokens.push(welcome["resume"].clone());
    let (mut new, _) = Client::connect_v1(one, Admission::anonymous()).await;
    new.send(resume_frame(&ann.resume_tokens)).await;
    run_other_tasks().await;
    cluster.broker.set_delivering_to(cluster.numbers[0], true);
    assert_eq!(rooms_in(&new.next_of("resumed").await), ["r"]);
    new.close().await;
    cluster.end().await;
}

/// As with one process: one of the connections resumes the session, the old one ends, and the others go on without a
/// session.
#[tokio::test(start_paused = true)]
async fn a_token_that_is_used_on_all_nodes_at_once_resumes_the_session_once() {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for (order, is_lost) in orders.into_iter().flat_map(|order| [(order, true), (order, false)]) {
        let cluster = Cluster::new();
        let nodes: &[ChatRooms; 3] = &cluster.nodes;
        let mut ann = V1Client::enter(&nodes[0], "ann").await;
        if is_lost {
            ann.disconnect().await;
        }
        let mut clients = Vec::new();
        for node in order {
            clients.push(Client::connect_v1(&nodes[node], Admission::anonymous()).await.0);
        }
        cluster.broker.set_available(false);
        for client in &mut clients {
            client.send(resume_frame(&ann.resume_tokens)).await;
            run_other_tasks().await;
        }
        cluster.broker.set_available(true);
        let mut resumed = Vec::new();
        for client in &mut clients {
            resumed.push(rooms_in(&client.next_of("resumed").await).len());
        }
        assert_eq!(resumed, [1, 0, 0], "{order:?}");
        if !is_lost {
            assert_eq!(ann.connection.close_code().await, 4503, "{order:?}");
        }
        for client in clients {
            client.close().await;
        }
        cluster.end().await;
    }
}

/// The client has a frame that the node has not heard.
#[tokio::test(start_paused = true)]
async fn a_client_that_is_ahead_of_its_new_node_has_missed_nothing() {
    let cluster = Cluster::new();
    let [one, other] = &cluster.nodes;
    let mut ann = V1Client::enter(one, "ann").await;
    let mut bob = V1Client::enter(other, "bob").await;
    assert_eq!(ann.next().await["num"], 2);
    cluster.broker.lose_next_event(cluster.numbers[1]);
    ann.send_message("lost").await;
    ann.expect_message("lost").await;
    ann.disconnect().await;
    let entered = ann.reconnect(other).await;
    assert_eq!(resumed_and_recovered(&entered), (true, true), "{entered}");
    // The others come back, because they have missed it.
    let entered = bob.reconnect(other).await;
    assert_eq!(resumed_and_recovered(&entered), (true, true), "{entered}");
    bob.expect_message("lost").await;
    for client in [ann, bob] {
        client.connection.close().await;
    }
    cluster.end().await;
}

/// The host is told of a member by the node that has it, if the one where it entered could not tell.
#[tokio::test(start_paused = true)]
async fn a_client_that_comes_back_elsewhere_while_it_enters_is_told_of_once() {
    for is_other_node in [true, false] {
        let cluster = Cluster::new();
        let nodes: &[ChatRooms; 2] = &cluster.nodes;
        let (mut ann, first) = Client::connect_v1(&nodes[0], Admission::anonymous()).await;
        // The broker has the member, but its node does not hear of it.
        cluster.broker.set_delivering_to(cluster.numbers[0], false);
        ann.send(enter_frame("ann", "r")).await;
        run_other_tasks().await;
        assert_eq!(cluster.broker.members(), 1);
        let (mut new, _) =
            Client::connect_v1(&nodes[usize::from(is_other_node)], Admission::anonymous()).await;
        new.send(resume_frame(&[first["resume"].clone()])).await;
        run_other_tasks().await;
        if is_other_node {
            assert_eq!(rooms_in(&new.next_of("resumed").await), ["r"]);
        }
        ann.disconnect().await;
        cluster.broker.set_delivering_to(cluster.numbers[0], true);
        run_other_tasks().await;
        new.close().await;
        run_other_tasks().await;
        let moves = cluster.log.take_moves();
        let told = |sign| moves.iter().filter(|line| line.starts_with(sign)).count();
        assert_eq!(told('+'), told('-'), "{moves:?}");
        assert!(!is_other_node || told('+') == 1, "{moves:?}");
        cluster.end().await;
    }
}

/// Refuses members that come back.
struct RefuseReturns;

impl RoomPolicy for RefuseReturns {
    async fn may_enter(&self, enter: &EnterRequest<'_>) -> Result<Access, Denied> {
        match enter.is_renewal() {
            true => Err(Denied::new("no")),
            false => Ok(Access::member()),
        }
    }
}

/// The new node asks the policy, as the old one would have done.
#[tokio::test(start_paused = true)]
async fn the_policy_is_asked_about_a_member_that_comes_back_elsewhere() {
    let broker = SharedBroker::new();
    let recovery = Recovery::default().resume_window(RESUME_WINDOW);
    let [one, other] = [(); 2].map(|()| {
        unlimited().recovery(recovery.clone()).policy(RefuseReturns).broker(broker.node()).build().unwrap()
    });
    let (ann, welcome) = Client::enter_v1(&one, Admission::anonymous()).await;
    ann.disconnect().await;
    let (mut ann, _) = Client::connect_v1(&other, Admission::anonymous()).await;
    assert_eq!(rooms_in(&ann.resume([&welcome["resume"]]).await), ["r"]);
    ann.send(enter_frame("ann", "r")).await;
    let answer = ann.next().await;
    assert_eq!((&answer["event"], &answer["code"]), (&json!("left"), &json!("denied")));
    ann.close().await;
    for rooms in [one, other] {
        run_other_tasks().await;
        assert_empty(&rooms);
        rooms.shutdown().await;
    }
}

/// The frames that the old node has kept are lost.
#[tokio::test(start_paused = true)]
async fn a_client_of_a_user_learns_that_direct_frames_may_be_lost() {
    let cluster = Cluster::new();
    let [one, other] = &cluster.nodes;
    let user = || Admission::user(User::new("u"));
    let (bob, _) = Client::connect_v1(other, Admission::anonymous()).await;
    let (mut ann, welcome) = Client::enter_v1(one, user()).await;
    one.send_to_user("u", &json!({"event": "x"})).unwrap();
    assert_eq!(ann.next_of("x").await["direct"], 1);
    ann.disconnect().await;
    one.send_to_user("u", &json!({"event": "lost"})).unwrap();
    run_other_tasks().await;
    let (mut ann, _) = Client::connect_v1(other, user()).await;
    let member = &welcome["connection"];
    let resume = json!({"event": "resume", "message": [welcome["resume"]], "direct": 1, "member": member});
    ann.send(resume).await;
    let resumed = ann.next().await;
    assert_eq!((&resumed["event"], &resumed["member"]), (&json!("resumed"), member));
    assert!(resumed["direct"].as_u64().unwrap() > 1, "{resumed}");
    other.send_to_user("u", &json!({"event": "x"})).unwrap();
    let next = match ann.next_or_close().await {
        Next::Frame(frame) => frame,
        Next::Closed(code) => panic!("closed with {code}"),
    };
    assert_eq!(next["direct"].as_u64().unwrap(), resumed["direct"].as_u64().unwrap() + 1);
    for client in [ann, bob] {
        client.close().await;
    }
    cluster.end().await;
}

/// Hides a member with this name.
struct HideLurker;

impl RoomPolicy for HideLurker {
    async fn may_enter(&self, request: &EnterRequest<'_>) -> Result<Access, Denied> {
        let is_hidden = request.name().as_str() == "lurker";
        Ok(if is_hidden { Access::member().hidden() } else { Access::member() })
    }
}

/// Asserts that a client with this token is resumed in the room "r" on a node, and returns it with its new token.
async fn resume_as(rooms: &ChatRooms, user: &str, name: &str, token: &Value) -> (Client, Value) {
    let (mut client, welcome) = Client::connect_v1(rooms, Admission::user(User::new(user))).await;
    assert_eq!(rooms_in(&client.resume([token]).await), ["r"]);
    client.send(enter_frame(name, "r")).await;
    assert_eq!(client.next_of("entered").await["resumed"], true);
    (client, welcome["resume"].clone())
}

/// The host is told of no user, either.
#[tokio::test(start_paused = true)]
async fn a_member_that_moves_keeps_its_name_and_stays_hidden() {
    let (broker, log) = (SharedBroker::new(), EventLog::default());
    let [one, other] = std::array::from_fn(|_| {
        let recovery = Recovery::default().resume_window(RESUME_WINDOW).history(History::last(100));
        let builder = unlimited().recovery(recovery).policy(HideLurker).unique_names(UniqueNames::AnyCase);
        builder.events(Recorder(log.clone())).broker(broker.node()).build().unwrap()
    });
    let (mut clients, mut tokens) = (Vec::new(), Vec::new());
    for (user, name) in [("u", "ann"), ("v", "lurker")] {
        let (mut client, welcome) = Client::connect_v1(&one, Admission::user(User::new(user))).await;
        client.send(enter_frame(name, "r")).await;
        client.next_of("entered").await;
        clients.push(client);
        tokens.push(welcome["resume"].clone());
    }
    run_other_tasks().await;
    log.take();
    for rooms in [&other, &one, &other] {
        for client in clients.drain(..) {
            client.disconnect().await;
        }
        let (ann, token_of_ann) = resume_as(rooms, "u", "ann", &tokens[0]).await;
        let (lurker, token_of_lurker) = resume_as(rooms, "v", "lurker", &tokens[1]).await;
        (clients, tokens) = (vec![ann, lurker], vec![token_of_ann, token_of_lurker]);
        let (mut thief, _) = Client::connect_v1(&one, Admission::anonymous()).await;
        thief.send(enter_frame("ANN", "r")).await;
        assert_eq!(thief.next_of("error").await["code"], "name_taken");
        thief.close().await;
        let info = &rooms.rooms()[0];
        assert_eq!((info.online, info.hidden), (1, 1));
        assert!(rooms.is_online("u") && one.all_nodes().is_online("u").await.unwrap());
    }
    run_other_tasks().await;
    assert_eq!(log.take(), [""; 0]);
    // On its new node, it changes its name in one step.
    clients[0].send(enter_frame("eve", "r")).await;
    assert_eq!(clients[0].next_of("entered").await["num"], 1);
    let (mut new, _) = Client::connect_v1(&one, Admission::anonymous()).await;
    new.send(enter_frame("ann", "r")).await;
    assert_eq!(new.next_of("entered").await["num"], 2);
    clients.push(new);
    for client in clients {
        client.close().await;
    }
    run_other_tasks().await;
    let told = log.take();
    assert_eq!(told.iter().filter(|line| line.starts_with("offline")).count(), 2, "{told:?}");
    assert_eq!((broker.members(), broker.sessions()), (0, 0));
    for rooms in [one, other] {
        assert_empty(&rooms);
        rooms.shutdown().await;
    }
}
