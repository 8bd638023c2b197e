//! Hidden members in rooms that several nodes share.

use std::sync::{Arc, Mutex};

use serde_json::json;
use tower_chat_rooms::{
    Access, Admission, ChatRooms, ChatRoomsBuilder, Denied, EnterRequest, Limits, RoomEvent, RoomPolicy,
    SharedBroker,
};

use crate::nodes::{enter, expect, names, nodes, stop};
use crate::support::{Client, enter_frame, message_frame};

/// What the host has heard: names, numbers, and whether the member is hidden.
pub(crate) type Heard = Arc<Mutex<Vec<(String, usize, bool)>>>;

struct Hide;

impl RoomPolicy for Hide {
    async fn may_enter(&self, request: &EnterRequest<'_>) -> Result<Access, Denied> {
        let is_hidden = request.name().as_str().starts_with("lurker");
        Ok(if is_hidden { Access::member().hidden() } else { Access::member() })
    }
}

pub(crate) fn hiding(builder: ChatRoomsBuilder, heard: &Heard) -> ChatRoomsBuilder {
    let heard = heard.clone();
    builder.policy(Hide).limits(Limits::default().max_room_members(3)).events(move |event: RoomEvent<'_>| {
        let what = match event {
            RoomEvent::Entered(e) => (e.name.to_string(), e.online, e.is_hidden),
            RoomEvent::Left(e) => (e.name.to_string(), e.online, e.is_hidden),
            _ => return,
        };
        heard.lock().unwrap().push(what);
    })
}

async fn lurk(rooms: &ChatRooms, name: &str) -> Client {
    let (mut lurker, _) = Client::connect_v1(rooms, Admission::anonymous()).await;
    lurker.send(enter_frame(name, "r")).await;
    let entered = lurker.next().await;
    assert_eq!((&entered["event"], &entered["hidden"]), (&json!("entered"), &json!(true)), "{entered}");
    lurker
}

fn counts(rooms: &ChatRooms) -> (usize, usize) {
    let info = &rooms.rooms()[0];
    (info.online, info.hidden)
}

pub(crate) async fn hidden_members_are_not_seen([one, other]: [ChatRooms; 2], heard: &Heard) {
    let mut lurker = lurk(&one, "lurker").await;
    assert_eq!(counts(&one), (0, 1));
    let (mut ann, entered) = enter(&other, "ann").await;
    assert_eq!((&entered["num"], names(&entered), &entered["seq"]), (&json!(1), vec![], &json!(0)));
    expect(&mut lurker, "enter", "ann", 1, 1).await;
    // It gets what the others get, and they get what it publishes.
    ann.send(message_frame("r", "hi")).await;
    lurker.send(message_frame("r", "boo")).await;
    let mut of_ann = vec![ann.next().await, ann.next().await];
    let of_lurker = [lurker.next().await, lurker.next().await];
    assert_eq!(of_ann, of_lurker);
    of_ann.retain(|frame| frame["name"] == "lurker");
    assert_eq!((&of_ann[0]["message"], &of_ann[0]["num"]), (&json!("boo"), &json!(1)));
    // Its state is not published, and a new name neither.
    lurker.send(json!({"event": "state", "state": 1, "roomId": "r"})).await;
    lurker.send(enter_frame("lurker 2", "r")).await;
    assert_eq!(lurker.next().await["event"], "entered");
    let second = lurk(&other, "lurker 3").await;
    ann.send(message_frame("r", "next")).await;
    expect(&mut lurker, "message", "ann", 4, 1).await;
    expect(&mut ann, "message", "ann", 4, 1).await;
    // They take places.
    let (mut bob, _) = Client::connect_v1(&one, Admission::anonymous()).await;
    bob.send(enter_frame("bob", "r")).await;
    assert_eq!(bob.next().await["code"], "room_full");
    for rooms in [&one, &other] {
        assert_eq!(counts(rooms), (1, 2));
        assert_eq!(rooms.check_consistency().faults, []);
    }
    second.close().await;
    // The room goes on while somebody is hidden there.
    ann.close().await;
    expect(&mut lurker, "out", "ann", 5, 0).await;
    bob.send(enter_frame("bob", "r")).await;
    let entered = bob.next().await;
    assert_eq!((&entered["seq"], &entered["num"]), (&json!(5), &json!(1)), "{entered}");
    expect(&mut lurker, "enter", "bob", 6, 1).await;
    lurker.close().await;
    expect(&mut bob, "enter", "bob", 6, 1).await;
    bob.assert_quiet().await;
    bob.close().await;
    let of = |name: &str, online, is_hidden| (name.to_owned(), online, is_hidden);
    let expected = [
        of("lurker", 0, true),
        of("ann", 1, false),
        of("lurker", 1, true),
        of("lurker 2", 1, true),
        of("lurker 3", 1, true),
        of("lurker 3", 1, true),
        of("ann", 0, false),
        of("bob", 1, false),
        of("lurker 2", 1, true),
        of("bob", 0, false),
    ];
    assert_eq!(*heard.lock().unwrap(), expected);
    stop([one, other]).await;
}

#[tokio::test(start_paused = true)]
async fn hidden_members_of_other_nodes_are_not_seen() {
    let (broker, heard) = (SharedBroker::new(), Heard::default());
    hidden_members_are_not_seen(nodes(&broker, |builder| hiding(builder, &heard)), &heard).await;
}
