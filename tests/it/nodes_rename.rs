//! Members that change their names or rooms, in rooms that several nodes share.

use std::time::Duration;

use serde_json::{Value, json};
use tower_chat_rooms::{
    Admission, ChatRooms, History, Limits, Presence, Recovery, SharedBroker, UniqueNames,
};

use crate::nodes::{enter, expect, nodes, stop};
use crate::support::{
    Client, EventLog, RESUME_WINDOW, V1Client, enter_frame, message_frame, run_other_tasks, unlimited,
};

async fn say(client: &mut Client, message: &str) {
    client.send(message_frame("r", message)).await;
}

pub(crate) async fn a_rename_is_one_step([one, other]: [ChatRooms; 2], log: &EventLog) {
    let (mut ann, _) = enter(&one, "ann").await;
    let (mut bob, _) = enter(&other, "bob").await;
    expect(&mut ann, "enter", "bob", 2, 2).await;
    // Everything that is published before, meanwhile and afterwards arrives, and the own leave does not.
    say(&mut bob, "before").await;
    expect(&mut bob, "message", "bob", 3, 2).await;
    ann.send_at_once([message_frame("r", "own"), enter_frame("anna", "r"), message_frame("r", "new")]).await;
    expect(&mut bob, "message", "ann", 4, 2).await;
    expect(&mut bob, "out", "ann", 5, 1).await;
    expect(&mut bob, "enter", "anna", 6, 2).await;
    expect(&mut bob, "message", "anna", 7, 2).await;
    expect(&mut ann, "message", "bob", 3, 2).await;
    expect(&mut ann, "message", "ann", 4, 2).await;
    let entered = ann.next().await;
    assert_eq!((&entered["event"], &entered["name"]), (&json!("entered"), &json!("anna")), "{entered}");
    assert_eq!(
        (&entered["seq"], &entered["num"], &entered["resumed"]),
        (&json!(5), &json!(2), &json!(false))
    );
    expect(&mut ann, "enter", "anna", 6, 2).await;
    expect(&mut ann, "message", "anna", 7, 2).await;
    for client in [ann, bob] {
        client.close().await;
    }
    let moves = log.take_moves();
    assert_eq!(moves[2..4], ["- ann r 1 renamed", "+ anna r 2"], "{moves:?}");
    stop([one, other]).await;
}

#[tokio::test(start_paused = true)]
async fn a_renamed_member_misses_nothing() {
    let (broker, log) = (SharedBroker::new(), EventLog::default());
    a_rename_is_one_step(nodes(&broker, |builder| builder.events(log.hook())), &log).await;
}

/// What nodes do is what one process does.
#[tokio::test(start_paused = true)]
async fn a_rename_looks_as_in_one_process() {
    for presence in [Presence::Full, Presence::Count] {
        let mut seen: Vec<(Vec<Value>, Vec<String>)> = Vec::new();
        for is_remote in [false, true] {
            let (broker, log) = (SharedBroker::new(), EventLog::default());
            let build = || unlimited().presence(presence).events(log.hook());
            let rooms = match is_remote {
                true => build().broker(broker.node()).build().unwrap(),
                false => build().build().unwrap(),
            };
            let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
            ann.send(enter_frame("ann", "r")).await;
            assert_eq!(ann.next().await["event"], "entered");
            let (mut bob, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
            for name in ["bob", "bobby"] {
                bob.send(enter_frame(name, "r")).await;
                assert_eq!(bob.next_of("entered").await["name"], name);
                // Counts of members are sent.
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
            ann.send(enter_frame("anna", "r")).await;
            let mut frames = Vec::new();
            tokio::time::sleep(Duration::from_secs(5)).await;
            ann.send(message_frame("r", "end")).await;
            loop {
                let mut frame = ann.next().await;
                let is_end = frame["message"] == "end";
                // With a broker, messages have no id.
                for key in ["epoch", "member", "members", "id"] {
                    frame.as_object_mut().unwrap().remove(key);
                }
                frames.push(frame);
                if is_end {
                    break;
                }
            }
            ann.close().await;
            bob.close().await;
            seen.push((frames, log.take_moves()));
            rooms.shutdown().await;
        }
        assert_eq!(seen[0], seen[1], "{presence:?}");
    }
}

pub(crate) async fn a_refused_rename_changes_nothing([one, other]: [ChatRooms; 2], log: &EventLog) {
    let (mut ann, _) = enter(&one, "ann").await;
    let (mut bob, _) = enter(&other, "bob").await;
    expect(&mut ann, "enter", "bob", 2, 2).await;
    ann.send(enter_frame("bob", "r")).await;
    assert_eq!(ann.next().await["code"], "name_taken");
    say(&mut ann, "still ann").await;
    for client in [&mut ann, &mut bob] {
        expect(client, "message", "ann", 3, 2).await;
    }
    // The room is full, which does not matter.
    ann.send(enter_frame("anna", "r")).await;
    expect(&mut bob, "out", "ann", 4, 1).await;
    expect(&mut bob, "enter", "anna", 5, 2).await;
    assert_eq!(ann.next().await["event"], "entered");
    for client in [ann, bob] {
        client.close().await;
    }
    assert_eq!(log.take_moves().len(), 6);
    stop([one, other]).await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_new_name_leaves_the_old_one() {
    let (broker, log) = (SharedBroker::new(), EventLog::default());
    let build = nodes(&broker, |builder| {
        let limits = Limits::default().max_room_members(2);
        builder.limits(limits).unique_names(UniqueNames::Exact).events(log.hook())
    });
    a_refused_rename_changes_nothing(build, &log).await;
}

pub(crate) async fn a_refused_move_changes_nothing([one, other]: [ChatRooms; 2]) {
    let mut ann = Client::enter(&one, "ann", "r").await;
    let mut bob = Client::enter(&other, "bob", "s").await;
    let mut eve = Client::enter(&other, "eve", "r").await;
    assert_eq!(ann.next_of("enter").await["name"], "eve");
    for (name, room, code) in [("bob", "s", "name_taken"), ("ann", "s", "room_full")] {
        if code == "room_full" {
            let cat = Client::enter(&one, "cat", "s").await;
            assert_eq!(bob.next_of("enter").await["name"], "cat");
            ann.send(enter_frame(name, room)).await;
            assert_eq!(ann.next_of("error").await["code"], code);
            cat.close().await;
        } else {
            ann.send(enter_frame(name, room)).await;
            assert_eq!(ann.next_of("error").await["code"], code);
        }
        ann.send(json!({"event": "message", "message": code})).await;
        for client in [&mut ann, &mut eve] {
            let message = client.next_of("message").await;
            assert_eq!((&message["message"], &message["num"]), (&json!(code), &json!(2)));
        }
    }
    for client in [ann, bob, eve] {
        client.close().await;
    }
    stop([one, other]).await;
}

#[tokio::test(start_paused = true)]
async fn a_plain_client_stays_in_its_room_if_another_one_refuses_it() {
    let broker = SharedBroker::new();
    a_refused_move_changes_nothing(nodes(&broker, |builder| {
        builder.limits(Limits::default().max_room_members(2)).unique_names(UniqueNames::Exact)
    }))
    .await;
}

/// Whether the broker has renamed the member is not known, so the member leaves, and its client comes back.
#[tokio::test(start_paused = true)]
async fn a_rename_without_an_answer_ends_the_membership() {
    for is_done in [false, true] {
        let (broker, log) = (SharedBroker::new(), EventLog::default());
        let recovery = Recovery::default().resume_window(RESUME_WINDOW).history(History::last(100));
        let [one, other] = nodes(&broker, |builder| builder.recovery(recovery.clone()).events(log.hook()));
        let mut ann = V1Client::enter(&one, "ann").await;
        let (mut bob, _) = enter(&other, "bob").await;
        assert_eq!(ann.next().await["name"], "bob");
        match is_done {
            true => broker.set_delivering(false),
            false => broker.set_available(false),
        }
        ann.connection.send(enter_frame("anna", "r")).await;
        let left = ann.connection.next_of("left").await;
        assert_eq!(left["code"], "unavailable");
        assert_eq!(ann.connection.close_code().await, 1013);
        broker.set_available(true);
        broker.set_delivering(true);
        // It is out under its new name or under its old one.
        loop {
            let frame = bob.next().await;
            if frame["event"] == "out" && frame["num"] == 1 && (!is_done || frame["name"] == "anna") {
                break;
            }
        }
        tokio::time::sleep(2 * RESUME_WINDOW).await;
        for rooms in [&one, &other] {
            assert_eq!(rooms.check_consistency().faults, []);
        }
        assert_eq!(broker.members(), 1);
        drop(bob);
        tokio::time::sleep(2 * RESUME_WINDOW).await;
        let moves = log.take_moves();
        assert_eq!(moves.iter().filter(|line| line.starts_with('+')).count(), 2, "{moves:?}");
        stop([one, other]).await;
    }
}

/// The host was told that the broker could not be reached.
#[tokio::test(start_paused = true)]
async fn a_member_that_ends_its_connection_during_a_rename_leaves_for_that_reason() {
    for reason in ["closed by the client", "connection lost", "dropped by the server"] {
        let (broker, log) = (SharedBroker::new(), EventLog::default());
        let rooms = unlimited().broker(broker.node()).events(log.hook()).build().unwrap();
        let (mut ann, _) = enter(&rooms, "ann").await;
        broker.set_delivering(false);
        ann.send(enter_frame("anna", "r")).await;
        run_other_tasks().await;
        match reason {
            "closed by the client" => ann.close().await,
            "connection lost" => ann.disconnect().await,
            _ => {
                ann.task.abort();
                assert!(ann.task.await.unwrap_err().is_cancelled());
            }
        }
        assert_eq!(log.take_moves(), ["+ ann r 1".to_owned(), format!("- ann r 0 {reason}")]);
        broker.set_delivering(true);
        rooms.shutdown().await;
        assert_eq!(broker.members(), 0);
    }
}
