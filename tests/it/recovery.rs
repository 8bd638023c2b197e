//! Clients that come back: to their seats, and without losing a frame.

use std::time::Duration;

use serde_json::{Value, json};
use tower_chat_rooms::{Admission, ChatRooms, Denied, History, Recovery, User};

use crate::client::{Client, Log, Next, assert_empty};
use crate::comer::{Comer, GRACE, builder, kept, resumed, stay_alive};

#[tokio::test(start_paused = true)]
async fn a_flap_is_seen_by_nobody() {
    for away in [Duration::ZERO, Duration::from_millis(1), GRACE / 2, GRACE - Duration::from_millis(1)] {
        let (rooms, log) = kept();
        let mut bob = Comer::enter(&rooms, "bob").await;
        let mut ann = Comer::enter(&rooms, "ann").await;
        bob.hears("ann").await;
        let before = rooms.members("r");
        ann.lose().await;
        assert_eq!((rooms.stats().absent, rooms.stats().connections), (1, 1));
        assert_eq!(rooms.members("r").iter().map(|m| m.is_connected).collect::<Vec<_>>(), [true, false]);
        bob.say("missed").await;
        bob.hears("missed").await;
        stay_alive(&mut bob, away).await;
        assert_eq!(resumed(&ann.back(&rooms).await), (true, true), "{away:?}");
        ann.hears("missed").await;
        ann.say("back").await;
        ann.hears("back").await;
        // For bob it comes right after what he has said himself.
        let frame = bob.next().await;
        assert_eq!((&frame["message"], &frame["num"]), (&json!("back"), &json!(2)));
        let after = rooms.members("r");
        assert!(after.iter().all(|m| m.is_connected));
        let ids = |members: &[tower_chat_rooms::MemberInfo]| {
            members.iter().map(|m| m.connection).collect::<Vec<_>>()
        };
        assert_eq!(ids(&after), ids(&before));
        assert_eq!((rooms.stats().absent, rooms.stats().resumed), (0, 1));
        assert!(rooms.kick(after[1].connection), "the seat is known by its old id");
        assert_eq!(ann.client.closed().await, 4500);
        bob.client.leave().await;
        let log: Vec<String> = log.take().into_iter().filter(|line| !line.contains(':')).collect();
        assert_eq!(log, ["+ bob r 1", "+ ann r 2", "- ann r 1 kicked", "- bob r 0 closed by the client"]);
        assert_empty(&rooms);
    }
}

#[tokio::test(start_paused = true)]
async fn past_the_grace_there_is_one_out_and_one_left() {
    let (rooms, log) = kept();
    let mut bob = Comer::enter(&rooms, "bob").await;
    let mut ann = Comer::enter(&rooms, "ann").await;
    bob.hears("ann").await;
    ann.lose().await;
    let lost = tokio::time::Instant::now();
    let out = bob.next().await;
    assert_eq!(lost.elapsed().as_secs(), GRACE.as_secs());
    assert_eq!((&out["event"], &out["name"], &out["num"]), (&json!("out"), &json!("ann"), &json!(1)));
    assert_eq!(log.take(), ["+ bob r 1", "+ ann r 2", "- ann r 1 connection lost"]);
    assert_eq!(resumed(&ann.back(&rooms).await), (false, true), "what was missed can still be had");
    assert_eq!(ann.next().await["event"], "out");
    assert_eq!(ann.next().await["event"], "enter");
    assert_eq!(bob.next().await["event"], "enter");
    assert_eq!(log.take(), ["+ ann r 2"]);
}

#[tokio::test(start_paused = true)]
async fn who_closes_on_purpose_is_out_at_once_and_who_means_to_return_is_not() {
    let (rooms, log) = kept();
    for (code, stays) in
        [(1000, false), (1001, true), (3000, false), (4000, true), (4499, true), (4500, false)]
    {
        let ann = Comer::enter(&rooms, "ann").await;
        log.take();
        ann.client.close_with(code).await;
        assert_eq!(rooms.stats().absent, usize::from(stays), "{code}");
        assert_eq!(log.take().is_empty(), stays, "{code}");
        rooms.close_room("r");
        tokio::task::yield_now().await;
    }
    let mut legacy = Client::enter(&rooms, "old", "r").await;
    legacy.text("x").await;
    legacy.vanish().await;
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn a_half_open_connection_is_taken_over() {
    let (rooms, log) = kept();
    let mut ann = Comer::enter(&rooms, "ann").await;
    // The server doesn't know yet that it is gone.
    let (client, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    let mut old = std::mem::replace(&mut ann.client, client);
    assert_eq!(resumed(&ann.back(&rooms).await), (true, true));
    assert_eq!(old.next_or_end().await, Next::End(4503));
    // Its cleanup comes late, and takes nothing with it.
    old.vanish().await;
    ann.say("still here").await;
    ann.hears("still here").await;
    assert_eq!(rooms.members("r").len(), 1);
    assert_eq!(log.take(), ["+ ann r 1", r#"ann r: {"event":"message","message":"still here"}"#]);
    ann.client.leave().await;
    assert_eq!(log.take(), ["- ann r 0 closed by the client"]);
}

#[tokio::test(start_paused = true)]
async fn an_enter_whose_answer_was_lost_is_found_by_either_secret() {
    let (rooms, log) = kept();
    let mut ann = Comer::enter(&rooms, "ann").await;
    let first = ann.secrets.clone();
    ann.lose().await;
    assert_eq!(resumed(&ann.back(&rooms).await), (true, true));
    // The client has not seen that, and knows both secrets.
    ann.secrets = [first, ann.secrets.clone()].concat();
    ann.lose().await;
    assert_eq!(resumed(&ann.back(&rooms).await), (true, true));
    // A third attempt, while the second is still open on the server.
    let second = ann.secrets.clone();
    assert_eq!(resumed(&ann.back(&rooms).await), (true, true));
    assert_ne!(second, ann.secrets);
    assert_eq!(log.take(), ["+ ann r 1"]);
    assert_eq!(rooms.stats().resumed, 3);
}

#[tokio::test(start_paused = true)]
async fn other_attempts_of_the_same_client_end() {
    let (rooms, _) = kept();
    let mut ann = Comer::enter(&rooms, "ann").await;
    ann.lose().await;
    // An attempt that got stuck before its enter was read.
    let (mut stuck, welcome) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    ann.secrets.push(welcome["resume"].clone());
    assert_eq!(resumed(&ann.back(&rooms).await), (true, true));
    assert_eq!(stuck.next_or_end().await, Next::End(4503));
}

#[tokio::test(start_paused = true)]
async fn a_secret_works_once_and_only_for_its_user() {
    let (rooms, log) = kept();
    let user = |id: &str| Admission::user(User::new(id));
    let mut ann = Comer::enter(&rooms, "ann").await;
    let good = ann.secrets.clone();
    ann.lose().await;
    for wrong in [json!("0".repeat(32)), json!("nonsense"), json!([])] {
        let mut eve = Comer::enter(&rooms, "eve").await;
        eve.lose().await;
        let enter = json!({"event": "enter", "message": "ann", "roomId": "r", "resume": wrong});
        let (mut client, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
        client.say(enter).await;
        let entered = client.next().await;
        assert_eq!(resumed(&entered), (false, false));
        client.leave().await;
    }
    // Of another user it is not, and it is not used up by his attempt.
    let mut eve = Comer { secrets: good.clone(), ..Comer::enter(&rooms, "eve").await };
    assert!(!resumed(&eve.back_as(&rooms, user("eve")).await).0);
    eve.client.leave().await;
    assert!(resumed(&ann.back(&rooms).await).0);
    ann.lose().await;
    ann.secrets = good;
    log.take();
    assert!(!resumed(&ann.back(&rooms).await).0, "it was used");
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_bound_to_who_authenticated_on_its_connection() {
    let log = Log::default();
    let rooms =
        builder(&log).auth(|token: String| async move { Ok::<_, Denied>(User::new(token)) }).build().unwrap();
    let auth = |token: &str| json!({"event": "auth", "message": token});
    let enter = |secret: Option<&Value>| {
        let mut enter = json!({"event": "enter", "message": "ann", "roomId": "r"});
        if let Some(secret) = secret {
            enter["resume"] = secret.clone();
        }
        enter
    };
    let (mut ann, welcome) = Client::connect_v1(&rooms, Admission::pending_auth()).await;
    ann.say(auth("u-1")).await;
    ann.say(enter(None)).await;
    assert_eq!(ann.next().await, json!({"event": "authenticated"}));
    assert_eq!(ann.next().await["event"], "entered");
    ann.vanish().await;
    for (token, works) in [("u-2", false), ("u-1", true)] {
        let (mut back, _) = Client::connect_v1(&rooms, Admission::pending_auth()).await;
        back.say(auth(token)).await;
        assert_eq!(back.next().await["event"], "authenticated");
        back.say(enter(Some(&welcome["resume"]))).await;
        assert_eq!(back.next().await["resumed"], works, "{token}");
        back.leave().await;
    }
}

#[tokio::test(start_paused = true)]
async fn history_is_bounded_by_frames_bytes_and_age() {
    let minute = Duration::from_secs(60);
    for (history, wait, recovered) in [
        (History::last(3), Duration::ZERO, true),
        (History::last(2), Duration::ZERO, false),
        (History::last(9).max_bytes(300), Duration::ZERO, true),
        (History::last(9).max_bytes(200), Duration::ZERO, false),
        (History::last(9).for_at_most(minute), minute - Duration::from_secs(1), true),
        (History::last(9).for_at_most(minute), minute + Duration::from_secs(1), false),
    ] {
        let rooms = ChatRooms::builder()
            .recovery(Recovery::default().resume_window(minute * 9).history(history))
            .build()
            .unwrap();
        let mut bob = Comer::enter(&rooms, "bob").await;
        let mut ann = Comer::enter(&rooms, "ann").await;
        bob.hears("ann").await;
        ann.lose().await;
        for n in 0..3 {
            bob.say(format!("{n} of some twenty bytes")).await;
            bob.next().await;
        }
        stay_alive(&mut bob, wait).await;
        assert_eq!(resumed(&ann.back(&rooms).await), (true, recovered), "{history:?} after {wait:?}");
        for n in (0..3).filter(|_| recovered) {
            ann.hears(format!("{n} of some twenty bytes")).await;
        }
        ann.say("new").await;
        ann.hears("new").await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_history_a_flap_in_silence_loses_nothing() {
    let rooms = ChatRooms::builder().recovery(Recovery::default().resume_window(GRACE)).build().unwrap();
    let mut ann = Comer::enter(&rooms, "ann").await;
    ann.lose().await;
    assert_eq!(resumed(&ann.back(&rooms).await), (true, true));
    let mut bob = Comer::enter(&rooms, "bob").await;
    ann.hears("bob").await;
    ann.lose().await;
    bob.say("missed").await;
    bob.hears("missed").await;
    assert_eq!(resumed(&ann.back(&rooms).await), (true, false));
    bob.say("new").await;
    ann.hears("new").await;
}

#[tokio::test(start_paused = true)]
async fn a_room_that_is_born_anew_has_another_epoch() {
    let rooms = ChatRooms::builder().recovery(Recovery::default().history(History::last(9))).build().unwrap();
    let mut ann = Comer::enter(&rooms, "ann").await;
    let epoch = ann.since["epoch"].clone();
    ann.lose().await;
    assert_empty(&rooms);
    ann.secrets = vec![];
    let entered = ann.back(&rooms).await;
    assert_eq!(resumed(&entered), (false, false));
    assert_ne!(entered["epoch"], epoch);
    assert_eq!(ann.next().await["seq"], 1);
    // The same position in another room is another one.
    let old = json!({"epoch": epoch, "seq": 0});
    let (mut bob, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    bob.say(json!({"event": "enter", "message": "bob", "roomId": "r", "since": old})).await;
    assert!(!resumed(&bob.next().await).1);
    bob.leave().await;
    assert_eq!(ann.next().await["event"], "enter");
    assert_eq!(ann.next().await["event"], "out");
    // What can't be is not believed.
    ann.since["seq"] = 99.into();
    ann.lose().await;
    assert!(!resumed(&ann.back(&rooms).await).1);
}

#[tokio::test(start_paused = true)]
async fn an_absent_member_can_be_sent_away() {
    type Act = fn(&ChatRooms);
    let acts: [(Act, &str); 2] = [
        (|rooms| assert!(rooms.kick(rooms.members("r")[0].connection)), "- ann r 0 kicked"),
        (|rooms| assert_eq!(rooms.close_room("r"), 1), "- ann r 0 room closed"),
    ];
    for (act, line) in acts {
        let (rooms, log) = kept();
        let mut ann = Comer::enter(&rooms, "ann").await;
        ann.lose().await;
        act(&rooms);
        tokio::task::yield_now().await;
        assert_eq!(log.take(), ["+ ann r 1", line]);
        assert_empty(&rooms);
        assert!(!resumed(&ann.back(&rooms).await).0);
    }
    let (rooms, log) = kept();
    let mut ann = Comer::enter(&rooms, "ann").await;
    ann.lose().await;
    rooms.shutdown().await;
    assert_eq!(log.take(), ["+ ann r 1", "- ann r 0 server shutdown"]);
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn a_missed_heartbeat_keeps_the_seat_too() {
    let (rooms, log) = kept();
    let mut ann = Comer::enter(&rooms, "ann").await;
    ann.client.polite = false;
    assert_eq!(ann.client.closed().await, 4000);
    assert_eq!(rooms.stats().heartbeats_missed, 1);
    assert_eq!(resumed(&ann.back(&rooms).await), (true, true));
    assert_eq!(log.take(), ["+ ann r 1"]);
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_under_another_name_or_to_another_room_moves() {
    let (rooms, log) = kept();
    let mut bob = Comer::enter(&rooms, "bob").await;
    let mut ann = Comer::enter(&rooms, "ann").await;
    bob.hears("ann").await;
    ann.lose().await;
    ann.name = "anna";
    assert_eq!(resumed(&ann.back(&rooms).await), (true, false), "first the seat that was kept");
    let entered = ann.client.next().await;
    assert_eq!((&entered["name"], &entered["resumed"]), (&json!("anna"), &json!(false)));
    assert_eq!(
        (bob.next().await["event"].clone(), bob.next().await["name"].clone()),
        (json!("out"), json!("anna"))
    );
    assert_eq!(log.take(), ["+ bob r 1", "+ ann r 2", "- ann r 1 renamed", "+ anna r 2"]);
}

#[tokio::test(start_paused = true)]
async fn plain_clients_see_none_of_it() {
    let (rooms, _) = kept();
    let mut old = Client::enter(&rooms, "old", "r").await;
    let mut ann = Comer::enter(&rooms, "ann").await;
    assert_eq!(
        old.next().await,
        json!({"event": "enter", "message": "ann", "roomId": "r", "name": "ann", "num": 2})
    );
    ann.lose().await;
    let enter = json!({"event": "x", "seq": 7, "since": 1, "resume": "s", "cid": 2});
    old.say(enter).await;
    assert_eq!(
        old.next().await,
        json!({"event": "x", "seq": 7, "since": 1, "resume": "s", "cid": 2, "name": "old", "num": 2})
    );
    assert!(resumed(&ann.back(&rooms).await).0);
    let replayed = ann.next().await;
    assert_eq!(replayed["seq"], 3, "{replayed}");
    ann.say("hi").await;
    assert_eq!(old.next().await, json!({"event": "message", "message": "hi", "name": "ann", "num": 2}));
    ann.hears("hi").await;
    old.leave().await;
    assert_eq!(ann.next().await["event"], "out");
}

#[tokio::test(start_paused = true)]
async fn secrets_go_to_nobody_else() {
    let (rooms, log) = kept();
    let mut bob = Comer::enter(&rooms, "bob").await;
    let (mut ann, welcome) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    let secret = welcome["resume"].as_str().unwrap();
    let enter = json!({"event": "enter", "message": "ann", "roomId": "r", "resume": [secret], "since": {"epoch": "x", "seq": 1}, "x": 1});
    ann.say(enter).await;
    assert_eq!(
        bob.next().await,
        json!({"event": "enter", "message": "ann", "roomId": "r", "x": 1, "name": "ann", "num": 2, "member": "1", "seq": 2})
    );
    assert!(!log.take().concat().contains(secret));
    assert!(!format!("{rooms:?}").contains(secret));
}
