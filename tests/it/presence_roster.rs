//! The roster: the members that a client learns about when it enters and when it asks for them.

use serde_json::{Value, json};
use tower_chat_rooms::{Admission, ChatRooms, Presence, User};

use crate::support::{
    Client, RESUME_WINDOW, V1Client, default_rooms, enter_frame, events_arrive, message_frame, nth_id,
    recovering_rooms, unlimited,
};

fn members_frame(after: Option<&Value>) -> Value {
    match after {
        Some(after) => json!({"event": "members", "roomId": "r", "after": after}),
        None => json!({"event": "members", "roomId": "r"}),
    }
}

fn names(page: &Value) -> Vec<&str> {
    page["members"].as_array().unwrap().iter().map(|member| member["name"].as_str().unwrap()).collect()
}

/// Plain members of the room "r", called "m0" and so on.
async fn plain_members(rooms: &ChatRooms, n: usize) -> Vec<Client> {
    let mut members = Vec::new();
    for id in 0..n {
        let mut client = Client::connect(rooms).await;
        client.send(enter_frame(&format!("m{id}"), "r")).await;
        members.push(client);
        // One after the other.
        while rooms.members("r").len() <= id {
            tokio::task::yield_now().await;
        }
    }
    members
}

#[tokio::test(start_paused = true)]
async fn entered_has_the_members_before_the_own_enter() {
    let (rooms, _log) = recovering_rooms();
    let (mut ann, entered) = {
        let (mut ann, _) = Client::connect_v1(&rooms, Admission::user(User::new("u-1"))).await;
        let entered = ann.enter_another("ann", "r").await;
        (ann, entered)
    };
    assert_eq!((&entered["mode"], &entered["users"]), (&json!("full"), &json!(1)));
    assert_eq!((&entered["members"], entered.get("next")), (&json!([]), None));
    assert!(entered.get("readOnly").is_none() && entered.get("hidden").is_none());
    let mut bob = V1Client::enter(&rooms, "bob").await;
    assert_eq!(ann.next().await["name"], "bob");
    bob.disconnect().await;
    let entered = bob.reconnect(&rooms).await;
    let roster =
        json!([{"member": nth_id(0), "name": "ann", "user": "u-1"}, {"member": nth_id(1), "name": "bob"}]);
    assert_eq!(
        (&entered["resumed"], &entered["members"], &entered["users"]),
        (&json!(true), &roster, &json!(1))
    );
    // As a new member, it is not in its own roster.
    bob.disconnect().await;
    tokio::time::sleep(RESUME_WINDOW * 2).await;
    ann.answer_heartbeats_and_read("out").await;
    let entered = bob.reconnect(&rooms).await;
    assert_eq!((&entered["resumed"], names(&entered)), (&json!(false), vec!["ann"]));
    // Under another name, it leaves first.
    bob.connection.send(enter_frame("rob", "r")).await;
    let mut entered = bob.connection.next().await;
    while entered["event"] != "entered" {
        entered = bob.connection.next().await;
    }
    assert_eq!((&entered["num"], names(&entered)), (&json!(2), vec!["ann"]));
}

impl Client {
    /// Reads up to a frame with this event.
    async fn answer_heartbeats_and_read(&mut self, event: &str) {
        while self.next().await["event"] != event {}
    }
}

#[tokio::test(start_paused = true)]
async fn pages_are_stable_while_members_come_and_go() {
    let rooms = unlimited().build().unwrap();
    let mut others = plain_members(&rooms, 250).await;
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    ann.send(enter_frame("ann", "r")).await;
    let entered = ann.next().await;
    assert_eq!(names(&entered), (0..100).map(|n| format!("m{n}")).collect::<Vec<_>>());
    assert_eq!(ann.next().await["event"], "enter");
    // Some leave: of the first page, its last member, and of the next one.
    for n in [150, 100, 99, 5] {
        others.remove(n).close().await;
        assert_eq!(ann.next().await["event"], "out");
    }
    let mut late = Client::connect(&rooms).await;
    late.send(enter_frame("late", "r")).await;
    assert_eq!(ann.next().await["name"], "late");
    ann.send(members_frame(Some(&entered["next"]))).await;
    let second = ann.next().await;
    assert_eq!(
        (&second["event"], &second["num"], &second["mode"]),
        (&json!("members"), &json!(248), &json!("full"))
    );
    let expected = (101..202).filter(|n| *n != 150).map(|n| format!("m{n}"));
    assert_eq!(names(&second), expected.collect::<Vec<_>>());
    ann.send(members_frame(Some(&second["next"]))).await;
    let third = ann.next().await;
    let expected = (202..250).map(|n| format!("m{n}")).chain(["ann".into(), "late".into()]);
    assert_eq!(names(&third), expected.collect::<Vec<_>>());
    assert_eq!(third.get("next"), None);
    // From the beginning.
    ann.send(members_frame(None)).await;
    let first = ann.next().await;
    assert_eq!((names(&first)[5], names(&first).len()), ("m6", 100));
    // After the end.
    ann.send(members_frame(Some(&json!("99999999")))).await;
    let empty = ann.next().await;
    assert_eq!((&empty["members"], empty.get("next")), (&json!([]), None));
}

/// Asks for the first page, which must be what the host sees.
async fn first_page(client: &mut Client, rooms: &ChatRooms) -> Value {
    client.send(members_frame(None)).await;
    let mut page = client.next().await;
    while page["event"] != "members" {
        page = client.next().await;
    }
    let all = rooms.members("r");
    assert_eq!(names(&page), all.iter().take(100).map(|member| member.name.as_str()).collect::<Vec<_>>());
    assert_eq!(page.get("next").is_some(), all.len() > 100);
    for (member, known) in all.iter().zip(page["members"].as_array().unwrap()) {
        assert_eq!(member.info, known.get("info").map(Value::to_string));
    }
    // The others may know of an enter before its own connection does.
    events_arrive().await;
    assert_eq!(rooms.check_consistency().faults, []);
    page
}

#[tokio::test(start_paused = true)]
async fn the_first_page_is_never_stale() {
    let rooms = unlimited().build().unwrap();
    let mut others = plain_members(&rooms, 100).await;
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    ann.enter_another("ann", "r").await;
    let full = first_page(&mut ann, &rooms).await;
    assert_eq!(first_page(&mut ann, &rooms).await, full);
    // A member that is not on the page enters, gets an info, and leaves.
    let mut late = Client::connect(&rooms).await;
    late.send(enter_frame("late", "r")).await;
    ann.answer_heartbeats_and_read("enter").await;
    assert_eq!(first_page(&mut ann, &rooms).await["members"], full["members"]);
    let set_info = |name, info: u8| {
        let members = rooms.members("r");
        let member = members.iter().find(|member| member.name.as_str() == name).unwrap();
        rooms.set_info("r", member.connection, &info).unwrap();
    };
    set_info("late", 1);
    assert_eq!(first_page(&mut ann, &rooms).await["members"], full["members"]);
    late.close().await;
    ann.answer_heartbeats_and_read("out").await;
    assert_eq!(first_page(&mut ann, &rooms).await["members"], full["members"]);
    // The same happens to members of the page.
    for info in [1, 2] {
        set_info("m3", info);
        assert_eq!(first_page(&mut ann, &rooms).await["members"][3]["info"], info);
    }
    others.remove(50).close().await;
    ann.answer_heartbeats_and_read("out").await;
    assert_eq!(first_page(&mut ann, &rooms).await["num"], 100);
    // The page is full, and then there is a second one, and then there is not.
    let mut late = Client::connect(&rooms).await;
    late.send(enter_frame("late", "r")).await;
    ann.answer_heartbeats_and_read("enter").await;
    assert_eq!(first_page(&mut ann, &rooms).await["num"], 101);
    late.close().await;
    ann.answer_heartbeats_and_read("out").await;
    assert_eq!(first_page(&mut ann, &rooms).await["num"], 100);
}

#[tokio::test(start_paused = true)]
async fn a_page_holds_32_kib() {
    let rooms = default_rooms();
    let mut members = Vec::new();
    for n in 0..50 {
        let (mut client, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
        let state = format!("{n}{}", "x".repeat(1_000));
        client.send(json!({"event": "enter", "message": "m", "roomId": "r", "state": state})).await;
        members.push(client);
        tokio::task::yield_now().await;
    }
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    ann.send(enter_frame("ann", "r")).await;
    let entered = ann.next().await;
    let first = names(&entered).len();
    assert!((30..33).contains(&first), "{first} members");
    assert!(entered["members"].to_string().len() <= 32 * 1024);
    assert_eq!(ann.next().await["event"], "enter");
    ann.send(members_frame(Some(&entered["next"]))).await;
    let rest = ann.next().await;
    assert_eq!((names(&rest).len(), rest.get("next")), (51 - first, None));
}

#[tokio::test(start_paused = true)]
async fn the_answer_comes_exactly_after_the_frame_of_its_seq() {
    let rooms = unlimited().build().unwrap();
    let (mut ann, _) = Client::enter_rooms(&rooms, "ann", &["r"]).await;
    let (mut bob, _) = Client::enter_rooms(&rooms, "bob", &["r"]).await;
    ann.next().await;
    // The server finds all of them at once: the answer must follow what was published before, although that is not
    // delivered yet, and come before what is published afterwards.
    for round in 0..20 {
        let mut frames = Vec::new();
        for n in 0..5 {
            frames.push(message_frame("r", n));
            if n == round % 5 {
                frames.push(members_frame(None));
            }
        }
        bob.send(message_frame("r", "from bob")).await;
        ann.send_at_once(frames).await;
        let (mut position, mut messages, mut answers) = (None, 0, 0);
        while (messages, answers) != (6, 1) {
            let frame = ann.next().await;
            let seq = frame["seq"].as_u64().unwrap();
            match frame["event"].as_str().unwrap() {
                "members" => {
                    assert!(position.is_none_or(|position| position == seq), "{frame} after {position:?}");
                    assert_eq!(names(&frame), ["ann", "bob"]);
                    position = Some(seq);
                    answers += 1;
                }
                "message" => {
                    assert!(
                        position.is_none_or(|position| position + 1 == seq),
                        "{frame} after {position:?}"
                    );
                    position = Some(seq);
                    messages += 1;
                }
                other => panic!("{other}"),
            }
        }
    }
    bob.assert_only_messages().await;
}

impl Client {
    async fn assert_only_messages(&mut self) {
        crate::support::run_other_tasks().await;
        while let Ok(frame) = tokio::time::timeout(std::time::Duration::from_millis(1), self.next()).await {
            assert_eq!(frame["event"], "message");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_own_enter_that_was_not_delivered_comes_before_the_answer() {
    let rooms = default_rooms();
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    ann.send_at_once([enter_frame("ann", "r"), members_frame(None), message_frame("r", "hi")]).await;
    assert_eq!(ann.next().await["event"], "entered");
    assert_eq!(ann.next().await["event"], "enter");
    let page = ann.next().await;
    assert_eq!((&page["event"], &page["seq"], names(&page)), (&json!("members"), &json!(1), vec!["ann"]));
    assert_eq!(ann.next().await["seq"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_malformed_request_for_members_is_refused() {
    let rooms = default_rooms();
    let (mut ann, _) = Client::enter_rooms(&rooms, "ann", &["r"]).await;
    for (frame, code) in [
        (json!({"event": "members", "roomId": "s"}), "not_entered"),
        (json!({"event": "members", "roomId": "r", "after": 7}), "bad_shape"),
        (json!({"event": "members", "roomId": "r", "after": "x"}), "bad_shape"),
    ] {
        ann.send(frame.clone()).await;
        let error = ann.next().await;
        assert_eq!((&error["code"], &error["roomId"]), (&json!(code), &frame["roomId"]), "{frame}");
    }
    // It counts as a message.
    for _ in 0..300 {
        ann.send(members_frame(None)).await;
    }
    let mut answer = ann.next().await;
    while answer["event"] == "members" {
        answer = ann.next().await;
    }
    assert_eq!((&answer["code"], &answer["roomId"]), (&json!("rate_limited"), &json!("r")));
}

/// A client that does not read gets the newest numbers when it does.
#[tokio::test(start_paused = true)]
async fn a_client_that_has_missed_presence_frames_is_told_when_it_has_caught_up() {
    for (presence, mode) in [(Presence::Full, "full"), (Presence::Count, "count")] {
        let rooms = unlimited().presence(presence).build().unwrap();
        let mut ann = Client::connect_as(&rooms, crate::support::v1_admission(), 2_048).await;
        assert_eq!(ann.next().await["event"], "welcome");
        ann.send(enter_frame("ann", "r")).await;
        assert_eq!(ann.next().await["event"], "entered");
        let (mut bob, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
        bob.send(enter_frame("bob", "r")).await;
        for n in 0..100 {
            bob.send(message_frame("r", format!("{n}{}", "x".repeat(100)))).await;
        }
        let reading = tokio::spawn(async move {
            loop {
                bob.send(json!({"event": "state", "state": 1})).await;
                let frame = bob.next().await;
                if frame["message"].as_str().is_some_and(|text| text.starts_with("99")) {
                    return bob;
                }
            }
        });
        let _bob = reading.await.unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        for n in 0..3 {
            let (mut cat, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
            cat.send(json!({"event": "enter", "message": "cat", "roomId": "r"})).await;
            assert_eq!(cat.next().await["event"], "entered");
            cat.send(json!({"event": "state", "state": n})).await;
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
            cat.close().await;
        }
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        let mut last = Value::Null;
        while let Ok(frame) = tokio::time::timeout(std::time::Duration::from_millis(10), ann.next()).await {
            assert_ne!(frame["event"], "state", "it was too slow for it");
            if frame["event"] == "presence" {
                last = frame;
            }
        }
        assert_eq!(last, json!({"event": "presence", "roomId": "r", "mode": mode, "num": 2, "users": 0}));
    }
}
