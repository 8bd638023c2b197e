//! Clients whose servers share rooms: they come back on any of them.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tower_chat_rooms::{ChatRooms, Drain, History, Recovery, SharedBroker};
use tower_chat_rooms_client::{Client, ClientEvent};

use crate::scripted_server::PATIENCE;
use crate::support::{Log, Replaceable, unlimited};

/// The next frame of the room: its event, its name and its message. Nothing may be missed before it.
async fn next_frame(client: &mut Client) -> String {
    loop {
        let event = timeout(PATIENCE, client.recv()).await.expect("no event").expect("the client has ended");
        match event {
            ClientEvent::Enter(frame) | ClientEvent::Out(frame) | ClientEvent::Message(frame) => {
                return format!("{} {} {}", frame.event(), frame.name().unwrap(), frame.message());
            }
            ClientEvent::Gap { .. } | ClientEvent::Error(_) => panic!("{event:?}"),
            _ => {}
        }
    }
}

fn nodes(broker: &SharedBroker, log: &Log) -> [ChatRooms; 3] {
    let recovery = Recovery::default().resume_window(Duration::from_secs(30)).history(History::last(1000));
    [(); 3].map(|()| {
        unlimited().recovery(recovery.clone()).events(log.hook()).broker(broker.node()).build().unwrap()
    })
}

#[tokio::test(start_paused = true)]
async fn a_client_moves_between_nodes_and_nobody_notices() {
    let (broker, log) = (SharedBroker::new(), Log::default());
    let nodes = nodes(&broker, &log);
    // The last node has no other member in the room.
    let mut fixed = Vec::new();
    for (node, name) in nodes.iter().zip(["bob", "carl"]) {
        fixed.push(Replaceable::new(node.clone()).client().name(name).await.unwrap());
    }
    let balancer = Replaceable::new(nodes[0].clone());
    let mut ann = balancer.client().name("ann").await.unwrap();
    while next_frame(&mut fixed[0]).await != "enter ann \"ann\"" {}
    while next_frame(&mut fixed[1]).await != "enter ann \"ann\"" {}
    assert_eq!(next_frame(&mut ann).await, "enter ann \"ann\"");
    for round in 0..10 {
        // It may have been published already when the connection breaks.
        let before = ann.sender().send(&format!("before {round}"));
        if round % 3 == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        balancer.cut();
        let missed = fixed[round % 2].sender().send(&format!("missed {round}"));
        balancer.replace(nodes[(round + 1) % 3].clone());
        sleep(Duration::from_millis(round as u64 * 100)).await;
        balancer.mend();
        for sent in [before, missed] {
            timeout(PATIENCE, sent).await.expect("not sent").unwrap();
        }
        let mut all = Vec::new();
        for client in fixed.iter_mut().chain([&mut ann]) {
            all.push([next_frame(client).await, next_frame(client).await]);
        }
        assert!(all.iter().all(|frames| *frames == all[0]), "{all:?}");
        let mut texts = all[0].clone();
        texts.sort();
        let other = ["bob", "carl"][round % 2];
        assert_eq!(texts[0], format!("message ann \"before {round}\""));
        assert_eq!(texts[1], format!("message {other} \"missed {round}\""));
    }
    timeout(PATIENCE, ann.leave()).await.expect("not left");
    for client in &mut fixed {
        assert_eq!(next_frame(client).await, "out ann null");
    }
    for client in fixed {
        timeout(PATIENCE, client.leave()).await.expect("not left");
    }
    let moves: Vec<_> = log.take().into_iter().filter(|line| line.starts_with(['+', '-'])).collect();
    assert_eq!(moves.len(), 6, "{moves:?}");
    for rooms in nodes {
        rooms.shutdown().await;
    }
    assert_eq!((broker.members(), broker.sessions()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_client_of_a_drained_node_goes_on_elsewhere_and_nobody_notices() {
    let (broker, log) = (SharedBroker::new(), Log::default());
    let nodes = nodes(&broker, &log);
    let mut bob = Replaceable::new(nodes[2].clone()).client().name("bob").await.unwrap();
    let balancer = Replaceable::new(nodes[0].clone());
    let mut ann = balancer.client().name("ann").await.unwrap();
    assert_eq!(next_frame(&mut bob).await, "enter bob \"bob\"");
    for client in [&mut ann, &mut bob] {
        assert_eq!(next_frame(client).await, "enter ann \"ann\"");
    }
    for round in 0..2 {
        // It may have been published already when the connection is closed.
        let own = ann.sender().send("own");
        balancer.replace(nodes[round + 1].clone());
        let drained = nodes[round].drain(Drain::over(Duration::ZERO)).await;
        assert_eq!((drained.closed, drained.kept), (1, 1));
        let missed = bob.sender().send("missed");
        nodes[round].shutdown().await;
        for sent in [own, missed] {
            timeout(PATIENCE, sent).await.expect("not sent").unwrap();
        }
        for client in [&mut ann, &mut bob] {
            let mut frames = [next_frame(client).await, next_frame(client).await];
            frames.sort();
            assert_eq!(frames, ["message ann \"own\"", "message bob \"missed\""]);
        }
    }
    for client in [ann, bob] {
        timeout(PATIENCE, client.leave()).await.expect("not left");
    }
    let moves: Vec<_> = log.take().into_iter().filter(|line| line.starts_with(['+', '-'])).collect();
    assert_eq!(moves.len(), 4, "{moves:?}");
    nodes[2].shutdown().await;
    assert_eq!((broker.members(), broker.sessions()), (0, 0));
}
