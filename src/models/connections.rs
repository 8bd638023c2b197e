//! Whole connections: their tasks, driven by what clients send and read.

use bytes::Bytes;
use serde_json::{Value, json};
use shuttle::future::{JoinHandle, block_on, spawn};
use shuttle::thread;
use tokio::io::duplex;

use super::check;
use super::wire::Wire;
use super::world::{World, at_once};
use crate::connection::{Opening, serve};
use crate::hooks::auth::Admission;
use crate::protocol::subprotocol::Subprotocol;
use crate::socket::Transport;

const BUFFER: usize = 64 * 1024;

/// A client, and the task that serves it.
struct Peer {
    wire: Wire,
    served: JoinHandle<()>,
}

impl Peer {
    fn connect(world: &World) -> Peer {
        let (io, wire) = duplex(BUFFER);
        let opening = Opening {
            permit: world.engine().admission.admit(None).ok().unwrap(),
            admission: Admission::anonymous(),
            peer: None,
            subprotocol: Subprotocol::V1,
            first: Bytes::new(),
            max_write: usize::MAX,
        };
        let task = serve(world.engine().clone(), Transport::Other(Box::new(io)), opening);
        Peer { wire: Wire::new(wire), served: spawn(task) }
    }

    fn send(&mut self, frame: &Value) {
        block_on(self.wire.send(frame));
    }

    /// Reads up to the next frame of an event.
    fn read(&mut self, event: &str) -> Option<Value> {
        loop {
            let frame = block_on(self.wire.next())?;
            if frame["event"] == event {
                return Some(frame);
            }
        }
    }

    /// Reads until the server closes the connection. Returns the messages that came.
    fn read_to_end(mut self) -> Vec<Value> {
        let messages = std::iter::from_fn(|| self.read("message")).collect();
        self.lose();
        messages
    }

    /// Breaks the connection, and waits until the server has noticed.
    fn lose(self) {
        drop(self.wire);
        block_on(self.served).unwrap();
    }
}

fn enter(name: &str) -> Value {
    json!({"event": "enter", "message": name, "roomId": "r"})
}

#[test]
fn a_shutdown_ends_every_connection() {
    check(|| {
        let world = World::new();
        let client = |mut peer: Peer| {
            let talk = move || {
                peer.send(&enter("n"));
                peer.send(&json!({"event": "message", "message": "hello"}));
                peer.read_to_end();
            };
            Box::new(talk) as Box<dyn FnOnce() + Send>
        };
        let stopper = world.clone();
        at_once(vec![
            client(Peer::connect(&world)),
            client(Peer::connect(&world)),
            Box::new(move || stopper.shut_down()),
        ]);
        world.assert_empty();
    });
}

#[test]
fn a_client_comes_back_before_its_old_connection_is_gone() {
    check(|| {
        let world = World::new();
        let (mut listener, mut old) = (Peer::connect(&world), Peer::connect(&world));
        listener.send(&enter("listener"));
        listener.read("entered").unwrap();
        let welcome = old.read("welcome").unwrap();
        old.send(&enter("n"));
        let entered = old.read("entered").unwrap();
        let message = json!({"event": "message", "message": "hello", "cid": "c1"});
        old.send(&message);
        let losing = thread::spawn(move || old.lose());
        let mut new = Peer::connect(&world);
        new.send(&json!({"event": "resume", "message": [welcome["resume"]]}));
        let mut back = enter("n");
        back["since"] = json!({"epoch": entered["epoch"], "seq": entered["seq"]});
        new.send(&back);
        let resumed = new.read("entered").unwrap();
        assert_eq!((&resumed["resumed"], &resumed["member"]), (&true.into(), &entered["member"]));
        new.send(&message);
        new.read("ack").unwrap();
        losing.join().unwrap();
        let stopper = world.clone();
        let stopping = thread::spawn(move || stopper.shut_down());
        new.read_to_end();
        let messages = listener.read_to_end();
        stopping.join().unwrap();
        assert_eq!(messages.len(), 1, "{messages:?}");
        world.assert_empty();
    });
}
