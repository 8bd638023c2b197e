//! Session resumption: a client that reconnects within the resume window keeps its session and its membership.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use tower_chat_rooms::{Admission, ChatRooms, Denied, EnterRequest, MemberInfo, User};

use crate::support::{
    Client, EventLog, Next, RESUME_WINDOW, V1Client, assert_empty, enter_frame, events_arrive,
    has_shared_broker, nth_id, recovering, recovering_rooms, resume_frame, resumed_and_recovered, rooms_in,
};

#[tokio::test(start_paused = true)]
async fn other_members_do_not_notice_a_lost_connection_that_is_resumed() {
    let millisecond = Duration::from_millis(1);
    for away in [Duration::ZERO, millisecond, RESUME_WINDOW / 2, RESUME_WINDOW - millisecond] {
        let (rooms, log) = recovering_rooms();
        let mut bob = V1Client::enter(&rooms, "bob").await;
        let mut ann = V1Client::enter(&rooms, "ann").await;
        bob.expect_message("ann").await;
        let before = rooms.members("r");
        ann.disconnect().await;
        assert_eq!((rooms.stats().absent, rooms.stats().connections), (1, 1));
        assert_eq!(rooms.members("r").iter().map(|m| m.is_connected).collect::<Vec<_>>(), [true, false]);
        bob.send_message("missed").await;
        bob.expect_message("missed").await;
        bob.answer_heartbeats_for(away).await;
        assert_eq!(resumed_and_recovered(&ann.reconnect(&rooms).await), (true, true), "{away:?}");
        ann.expect_message("missed").await;
        ann.send_message("back").await;
        ann.expect_message("back").await;
        // The next frame that bob receives is this message.
        let frame = bob.next().await;
        assert_eq!((&frame["message"], &frame["num"]), (&json!("back"), &json!(2)));
        let after = rooms.members("r");
        assert!(after.iter().all(|m| m.is_connected));
        let ids = |members: &[MemberInfo]| members.iter().map(|m| m.connection).collect::<Vec<_>>();
        assert_eq!(ids(&after), ids(&before));
        assert_eq!((rooms.stats().absent, rooms.stats().resumed), (0, 1));
        assert!(rooms.kick(after[1].connection), "the member has kept its id");
        assert_eq!(ann.connection.close_code().await, 4500);
        bob.connection.close().await;
        assert_eq!(
            log.take_moves(),
            ["+ bob r 1", "+ ann r 2", "- ann r 1 kicked", "- bob r 0 closed by the client"]
        );
        assert_empty(&rooms);
    }
}

#[tokio::test(start_paused = true)]
async fn after_the_resume_window_there_is_one_out_and_one_left() {
    let (rooms, log) = recovering_rooms();
    let mut bob = V1Client::enter(&rooms, "bob").await;
    let mut ann = V1Client::enter(&rooms, "ann").await;
    bob.expect_message("ann").await;
    ann.disconnect().await;
    let lost = Instant::now();
    let out = bob.next().await;
    assert_eq!(lost.elapsed().as_secs(), RESUME_WINDOW.as_secs());
    assert_eq!((&out["event"], &out["name"], &out["num"]), (&json!("out"), &json!("ann"), &json!(1)));
    assert_eq!(log.take(), ["+ bob r 1", "+ ann r 2", "- ann r 1 connection lost"]);
    assert_eq!(resumed_and_recovered(&ann.reconnect(&rooms).await), (false, true));
    assert_eq!(ann.next().await["event"], "out");
    assert_eq!(ann.next().await["event"], "enter");
    assert_eq!(bob.next().await["event"], "enter");
    assert_eq!(log.take(), ["+ ann r 2"]);
}

#[tokio::test(start_paused = true)]
async fn the_close_code_says_whether_the_session_is_kept() {
    let (rooms, log) = recovering_rooms();
    for (code, kept) in
        [(1000, false), (1001, true), (3000, false), (4000, true), (4499, true), (4500, false)]
    {
        let ann = V1Client::enter(&rooms, "ann").await;
        log.take();
        ann.connection.close_with(code).await;
        assert_eq!(rooms.stats().absent, usize::from(kept), "{code}");
        assert_eq!(log.take().is_empty(), kept, "{code}");
        rooms.close_room("r");
        tokio::task::yield_now().await;
    }
    // The session of a plain client ends with its connection.
    let mut plain = Client::enter(&rooms, "plain", "r").await;
    plain.send_text("x").await;
    plain.disconnect().await;
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn a_half_open_connection_is_replaced() {
    let (rooms, log) = recovering_rooms();
    let mut ann = V1Client::enter(&rooms, "ann").await;
    // The server does not know yet that the connection is lost.
    let mut old = std::mem::replace(&mut ann.connection, Client::disconnected().await);
    assert_eq!(resumed_and_recovered(&ann.reconnect(&rooms).await), (true, true));
    assert_eq!(old.next_or_close().await, Next::Closed(4503));
    // When the old connection ends, the session goes on.
    old.disconnect().await;
    ann.send_message("still here").await;
    ann.expect_message("still here").await;
    assert_eq!(rooms.members("r").len(), 1);
    assert_eq!(log.take(), ["+ ann r 1", r#"ann r: {"event":"message","message":"still here"}"#]);
    ann.connection.close().await;
    assert_eq!(log.take(), ["- ann r 0 closed by the client"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_missed_the_answer_resumes_with_either_token() {
    let (rooms, log) = recovering_rooms();
    let mut ann = V1Client::enter(&rooms, "ann").await;
    let first = ann.resume_tokens.clone();
    ann.disconnect().await;
    assert_eq!(resumed_and_recovered(&ann.reconnect(&rooms).await), (true, true));
    // The client has not received the answer, so either of its tokens may be valid.
    ann.resume_tokens = [first, ann.resume_tokens.clone()].concat();
    ann.disconnect().await;
    assert_eq!(resumed_and_recovered(&ann.reconnect(&rooms).await), (true, true));
    // A third attempt, while the second connection is still open on the server.
    let second = ann.resume_tokens.clone();
    assert_eq!(resumed_and_recovered(&ann.reconnect(&rooms).await), (true, true));
    assert_ne!(second, ann.resume_tokens);
    assert_eq!(log.take(), ["+ ann r 1"]);
    assert_eq!(rooms.stats().resumed, 3);
}

#[tokio::test(start_paused = true)]
async fn a_resume_closes_other_attempts_of_the_same_client() {
    let (rooms, _) = recovering_rooms();
    let mut ann = V1Client::enter(&rooms, "ann").await;
    ann.disconnect().await;
    // An attempt that has sent neither a resume nor an enter.
    let (mut other, welcome) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    ann.resume_tokens.push(welcome["resume"].clone());
    assert_eq!(resumed_and_recovered(&ann.reconnect(&rooms).await), (true, true));
    assert_eq!(other.next_or_close().await, Next::Closed(4503));
}

/// The other session used to be kept for the resume window, and its member to stay in the room.
#[tokio::test(start_paused = true)]
async fn a_resume_ends_the_other_sessions_of_the_same_client() {
    for is_connected in [true, false] {
        let (rooms, log) = recovering_rooms();
        let mut ann = V1Client::enter(&rooms, "ann").await;
        let mut other = V1Client::enter(&rooms, "other").await;
        ann.expect_message("other").await;
        ann.resume_tokens.append(&mut other.resume_tokens);
        ann.disconnect().await;
        if is_connected {
            assert_eq!(resumed_and_recovered(&ann.reconnect(&rooms).await), (true, true));
            assert_eq!(other.connection.next_or_close().await, Next::Closed(4503));
        } else {
            other.disconnect().await;
            assert_eq!(resumed_and_recovered(&ann.reconnect(&rooms).await), (true, true));
        }
        assert_eq!(ann.next().await["event"], "out");
        assert_eq!(
            log.take_moves(),
            ["+ ann r 1", "+ other r 2", "- other r 1 replaced by another connection"],
            "{is_connected}"
        );
        assert_eq!((rooms.members("r").len(), rooms.stats().absent), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_resume_token_works_once_and_only_for_its_user() {
    let (rooms, log) = recovering_rooms();
    let user = |id: &str| Admission::user(User::new(id));
    let mut ann = V1Client::enter(&rooms, "ann").await;
    let good = ann.resume_tokens.clone();
    ann.disconnect().await;
    for wrong in [Some(json!("0".repeat(32))), Some(json!("nonsense")), None] {
        let mut eve = V1Client::enter(&rooms, "eve").await;
        eve.disconnect().await;
        let (mut client, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
        let entered = client.resume_and_enter(&wrong, enter_frame("ann", "r")).await;
        assert_eq!(resumed_and_recovered(&entered), (false, false));
        client.close().await;
    }
    // Another user cannot resume with it, and the attempt does not use it up.
    let mut eve = V1Client { resume_tokens: good.clone(), ..V1Client::enter(&rooms, "eve").await };
    assert!(!resumed_and_recovered(&eve.reconnect_as(&rooms, user("eve")).await).0);
    eve.connection.close().await;
    assert!(resumed_and_recovered(&ann.reconnect(&rooms).await).0);
    ann.disconnect().await;
    ann.resume_tokens = good;
    log.take();
    assert!(!resumed_and_recovered(&ann.reconnect(&rooms).await).0, "the token was used before");
}

#[tokio::test(start_paused = true)]
async fn a_resume_token_works_only_for_the_user_that_authenticated_in_band() {
    let log = EventLog::default();
    let rooms = recovering(&log)
        .auth(|token: String| async move { Ok::<_, Denied>(User::new(token)) })
        .build()
        .unwrap();
    let auth = |token: &str| json!({"event": "auth", "message": token});
    let (mut ann, welcome) = Client::connect_v1(&rooms, Admission::pending_auth()).await;
    ann.send(auth("u-1")).await;
    ann.send(enter_frame("ann", "r")).await;
    assert_eq!(ann.next().await, json!({"event": "authenticated"}));
    assert_eq!(ann.next().await["event"], "entered");
    ann.disconnect().await;
    for (token, works) in [("u-2", false), ("u-1", true)] {
        let (mut client, _) = Client::connect_v1(&rooms, Admission::pending_auth()).await;
        client.send(auth(token)).await;
        assert_eq!(client.next().await["event"], "authenticated");
        let entered = client.resume_and_enter([&welcome["resume"]], enter_frame("ann", "r")).await;
        assert_eq!(entered["resumed"], works, "{token}");
        client.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_disconnected_member_can_be_kicked_and_its_room_closed() {
    type Action = fn(&ChatRooms);
    let actions: [(Action, &str); 2] = [
        (|rooms| assert!(rooms.kick(rooms.members("r")[0].connection)), "- ann r 0 kicked"),
        (|rooms| assert_eq!(rooms.close_room("r"), 1), "- ann r 0 room closed"),
    ];
    for (action, line) in actions {
        let (rooms, log) = recovering_rooms();
        let mut ann = V1Client::enter(&rooms, "ann").await;
        ann.disconnect().await;
        action(&rooms);
        tokio::task::yield_now().await;
        events_arrive().await;
        assert_eq!(log.take(), ["+ ann r 1", line]);
        assert_empty(&rooms);
        assert!(!resumed_and_recovered(&ann.reconnect(&rooms).await).0);
    }
    let (rooms, log) = recovering_rooms();
    let mut ann = V1Client::enter(&rooms, "ann").await;
    ann.disconnect().await;
    rooms.shutdown().await;
    // Other nodes could resume the session.
    let left = if has_shared_broker() { None } else { Some("- ann r 0 server shutdown") };
    assert_eq!(log.take(), ["+ ann r 1"].into_iter().chain(left).collect::<Vec<_>>());
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn a_missed_heartbeat_keeps_the_session() {
    let (rooms, log) = recovering_rooms();
    let mut ann = V1Client::enter(&rooms, "ann").await;
    ann.connection.answers_heartbeats = false;
    assert_eq!(ann.connection.close_code().await, 4000);
    assert_eq!(rooms.stats().heartbeats_missed, 1);
    assert_eq!(resumed_and_recovered(&ann.reconnect(&rooms).await), (true, true));
    assert_eq!(log.take(), ["+ ann r 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_resumes_under_another_name_is_renamed() {
    let (rooms, log) = recovering_rooms();
    let mut bob = V1Client::enter(&rooms, "bob").await;
    let mut ann = V1Client::enter(&rooms, "ann").await;
    bob.expect_message("ann").await;
    ann.disconnect().await;
    ann.name = "anna";
    assert_eq!(
        resumed_and_recovered(&ann.reconnect(&rooms).await),
        (true, false),
        "first under the old name"
    );
    let entered = ann.connection.next().await;
    assert_eq!((&entered["name"], &entered["resumed"]), (&json!("anna"), &json!(false)));
    assert_eq!(
        (bob.next().await["event"].clone(), bob.next().await["name"].clone()),
        (json!("out"), json!("anna"))
    );
    assert_eq!(log.take(), ["+ bob r 1", "+ ann r 2", "- ann r 1 renamed", "+ anna r 2"]);
}

#[tokio::test(start_paused = true)]
async fn plain_clients_see_only_the_keys_of_the_plain_wire() {
    let (rooms, _) = recovering_rooms();
    let mut plain = Client::enter(&rooms, "plain", "r").await;
    let mut ann = V1Client::enter(&rooms, "ann").await;
    assert_eq!(
        plain.next().await,
        json!({"event": "enter", "message": "ann", "roomId": "r", "name": "ann", "num": 2})
    );
    ann.disconnect().await;
    plain.send(json!({"event": "x", "seq": 7, "since": 1, "resume": "s", "cid": 2})).await;
    assert_eq!(
        plain.next().await,
        json!({"event": "x", "seq": 7, "since": 1, "resume": "s", "cid": 2, "name": "plain", "num": 2})
    );
    assert!(resumed_and_recovered(&ann.reconnect(&rooms).await).0);
    let replayed = ann.next().await;
    assert_eq!(replayed["seq"], 3, "{replayed}");
    ann.send_message("hi").await;
    assert_eq!(plain.next().await, json!({"event": "message", "message": "hi", "name": "ann", "num": 2}));
    ann.expect_message("hi").await;
    plain.close().await;
    assert_eq!(ann.next().await["event"], "out");
}

#[tokio::test(start_paused = true)]
async fn a_resume_token_is_not_relayed_or_logged() {
    let (rooms, log) = recovering_rooms();
    let mut bob = V1Client::enter(&rooms, "bob").await;
    let (mut ann, welcome) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    let token = welcome["resume"].as_str().unwrap();
    let since = json!({"epoch": "x", "seq": 1});
    ann.send(resume_frame([&welcome["resume"]])).await;
    ann.send(json!({"event": "enter", "message": "ann", "roomId": "r", "since": since, "x": 1})).await;
    assert_eq!(
        bob.next().await,
        json!({
            "event": "enter", "message": "ann", "roomId": "r", "x": 1,
            "name": "ann", "num": 2, "member": nth_id(1), "seq": 2,
        })
    );
    assert!(!log.take().concat().contains(token));
    assert!(!format!("{rooms:?}").contains(token));
}

/// A client that resumed, and was denied another room, used to be closed as if it had never entered.
#[tokio::test(start_paused = true)]
async fn a_client_that_resumes_and_is_denied_another_room_stays_a_member() {
    let rooms = recovering(&EventLog::default())
        .policy(|request: &EnterRequest<'_>| match request.room().as_str() {
            "r" => Ok(()),
            _ => Err(Denied::new("not there")),
        })
        .build()
        .unwrap();
    let (ann, welcome) = Client::enter_v1(&rooms, Admission::anonymous()).await;
    ann.disconnect().await;
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    assert_eq!(rooms.stats().pending, 1);
    let resumed = ann.resume([&welcome["resume"]]).await;
    assert_eq!(rooms_in(&resumed), ["r"]);
    ann.send(enter_frame("ann", "elsewhere")).await;
    let denied = ann.next().await;
    assert_eq!((&denied["code"], &denied["roomId"]), (&json!("denied"), &json!("elsewhere")));
    assert_eq!((rooms.stats().resumed, rooms.stats().pending), (1, 0));
    ann.send(enter_frame("ann", "r")).await;
    assert_eq!(ann.next().await["resumed"], true);
    // Longer than the time to enter.
    let more = tokio::time::timeout(Duration::from_secs(60), ann.next_or_close()).await;
    assert!(more.is_err(), "{more:?}");
    assert_eq!(rooms.members("r").len(), 1);
}
