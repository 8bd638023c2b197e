//! Attacks on presence: rosters and states, with the limits that hold by default.

use serde_json::{Value, json};
use tower_chat_rooms::{Access, Admission, ChatRooms, Denied, EnterRequest};

use crate::support::{Client, Next, TestIo, enter_frame, v1_admission};

/// Rooms whose members have an info of almost the size that is allowed.
fn rooms_with_infos() -> ChatRooms {
    let policy = |_: &EnterRequest<'_>| {
        Access::member().info(&"x".repeat(1_000)).map_err(|_| Denied::new("the info is too big"))
    };
    ChatRooms::builder().policy(policy).build().unwrap()
}

/// Members that are in all of these rooms, and read everything.
async fn fill(rooms: &ChatRooms, ids: &[String], members: usize) {
    for n in 0..members {
        let (mut client, _) = Client::connect_v1(rooms, Admission::anonymous()).await;
        for id in ids {
            client.send(enter_frame(&format!("m{n}"), id)).await;
            while client.next().await["event"] != "entered" {}
        }
        tokio::spawn(async move { while let Next::Frame(_) = client.next_or_close().await {} });
    }
}

async fn next_of(client: &mut Client, event: &str) -> Result<Value, u16> {
    loop {
        match client.next_or_close().await {
            Next::Frame(frame) if frame["event"] == event => return Ok(frame),
            Next::Frame(_) => {}
            Next::Closed(code) => return Err(code),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_on_a_slow_network_can_enter_many_rooms_with_long_rosters_at_once() {
    let rooms = rooms_with_infos();
    let ids: Vec<String> = (0..64).map(|n| format!("room {n}")).collect();
    fill(&rooms, &ids, 35).await;
    // 4 Mbit/s.
    let mut ann =
        Client::connect_through(&rooms, v1_admission(), |io| TestIo::over_line(io, 500_000, 64 * 1024)).await;
    assert_eq!(ann.next().await["event"], "welcome");
    ann.send_at_once(ids.iter().map(|id| enter_frame("ann", id))).await;
    let mut bytes = 0;
    for n in 0..64 {
        let entered = next_of(&mut ann, "entered").await.unwrap_or_else(|code| panic!("{code} after {n}"));
        bytes += entered.to_string().len();
    }
    assert!(bytes > 64 * 30_000, "{bytes}");
    // The first page of each room, and the next one.
    ann.send_at_once(ids.iter().map(|id| json!({"event": "members", "roomId": id}))).await;
    for n in 0..64 {
        next_of(&mut ann, "members").await.unwrap_or_else(|code| panic!("{code} after {n} pages"));
    }
}
