//! Whole conversations of a few clients, in any order and of any frames, against what must hold.

#![no_main]

use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use tower_chat_rooms_fuzz::{Client, assert_empty, rooms, run};

#[derive(Debug, Arbitrary)]
enum Op<'a> {
    Connect {
        who: u8,
        v1: bool,
        narrow: bool,
    },
    Enter {
        who: u8,
        room: u8,
        name: u8,
    },
    Say {
        who: u8,
        text: &'a str,
        cid: Option<u8>,
    },
    Text {
        who: u8,
        text: &'a str,
    },
    Frame {
        who: u8,
        first: u8,
        payload: &'a [u8],
    },
    Bytes {
        who: u8,
        bytes: &'a [u8],
    },
    Pong {
        who: u8,
    },
    Close {
        who: u8,
        code: u16,
    },
    Vanish {
        who: u8,
    },
    /// The connection is lost, and its client resumes its session on another.
    Back {
        who: u8,
        room: u8,
        since: u8,
    },
    Read {
        who: u8,
    },
    Kick {
        who: u8,
    },
    CloseRoom {
        room: u8,
    },
    HostSays {
        room: u8,
        seq: bool,
    },
    Pass {
        millis: u16,
    },
    SayIn {
        who: u8,
        room: u8,
    },
    Leave {
        who: u8,
        room: u8,
    },
}

const CLIENTS: usize = 4;
const ROOMS: [&str; 4] = ["", "a", "b", "__proto__"];
const NAMES: [&str; 4] = ["ann", "bob", "小明", "__proto__"];

fn pick<T: Copy, const N: usize>(all: [T; N], at: u8) -> T {
    all[usize::from(at) % N]
}

fuzz_target!(|ops: Vec<Op<'_>>| run(play(ops)));

async fn play(ops: Vec<Op<'_>>) {
    let (rooms, inside) = rooms();
    let mut clients: [Option<Client>; CLIENTS] = Default::default();
    for op in ops.into_iter().take(64) {
        let who = match &op {
            Op::Connect { who, .. }
            | Op::Enter { who, .. }
            | Op::Say { who, .. }
            | Op::Text { who, .. }
            | Op::Frame { who, .. }
            | Op::Bytes { who, .. }
            | Op::Pong { who }
            | Op::Close { who, .. }
            | Op::Vanish { who }
            | Op::Back { who, .. }
            | Op::Read { who }
            | Op::SayIn { who, .. }
            | Op::Leave { who, .. }
            | Op::Kick { who } => usize::from(*who) % CLIENTS,
            _ => 0,
        };
        let slot = &mut clients[who];
        match op {
            Op::Connect { v1, narrow, .. } => {
                if let Some(old) =
                    slot.replace(Client::connect(&rooms, v1, if narrow { 64 } else { 1 << 16 }))
                {
                    old.vanish().await;
                }
            }
            Op::Vanish { .. } => {
                if let Some(old) = slot.take() {
                    old.vanish().await;
                }
            }
            Op::Back { room, since, .. } => {
                let Some(old) = slot.take() else { continue };
                let mut new = Client::connect(&rooms, true, 1 << 16);
                new.follow(&old);
                let tokens: Vec<_> = old.secret.iter().collect();
                new.text(&json!({"event": "resume", "message": tokens}).to_string()).await;
                let mut enter = json!({"event": "enter", "message": "ann", "roomId": pick(ROOMS, room)});
                enter["since"] = json!({"epoch": "0000000000000000", "seq": since});
                new.text(&enter.to_string()).await;
                if since % 2 == 0 {
                    old.vanish().await;
                } else {
                    // Half-open: the server doesn't know yet.
                    new.read().await;
                    old.vanish().await;
                }
                *slot = Some(new);
            }
            Op::CloseRoom { room } => {
                rooms.close_room(pick(ROOMS, room));
            }
            Op::HostSays { room, seq } => {
                let mut value = json!({"event": "notice", "name": "x"});
                if seq {
                    value["seq"] = 1.into();
                }
                let _ = rooms.send(pick(ROOMS, room), &value);
            }
            Op::Pass { millis } => tokio::time::sleep(Duration::from_millis(millis.into())).await,
            Op::Kick { .. } => {
                if let Some(member) = rooms.members(pick(ROOMS, who as u8)).first() {
                    rooms.kick(member.connection);
                }
            }
            op => {
                let Some(client) = slot else { continue };
                act(client, op).await;
            }
        }
    }
    for client in clients.into_iter().flatten() {
        client.vanish().await;
    }
    assert_empty(&rooms, &inside).await;
}

async fn act(client: &mut Client, op: Op<'_>) {
    match op {
        Op::Enter { room, name, .. } => {
            let enter = json!({"event": "enter", "message": pick(NAMES, name), "roomId": pick(ROOMS, room)});
            client.text(&enter.to_string()).await;
        }
        Op::Say { text, cid, .. } => {
            let mut say = json!({"event": "message", "message": text});
            if let Some(cid) = cid {
                say["cid"] = cid.to_string().into();
            }
            client.text(&say.to_string()).await;
        }
        Op::SayIn { room, .. } => {
            let say = json!({"event": "message", "message": "x", "roomId": pick(ROOMS, room)});
            client.text(&say.to_string()).await;
        }
        Op::Leave { room, .. } => {
            client.text(&json!({"event": "leave", "roomId": pick(ROOMS, room)}).to_string()).await;
        }
        Op::Text { text, .. } => {
            client.text(text).await;
        }
        Op::Frame { first, payload, .. } => {
            client.frame(first, &payload[..payload.len().min(4096)]).await;
        }
        Op::Bytes { bytes, .. } => {
            client.bytes(bytes).await;
        }
        Op::Pong { .. } => {
            client.text(r#"{"event":"heartbeat","message":"pong"}"#).await;
        }
        Op::Close { code, .. } => {
            client.frame(0x88, &code.to_be_bytes()).await;
        }
        Op::Read { .. } => {
            client.read().await;
        }
        _ => {}
    }
}
