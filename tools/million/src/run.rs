//! A run in memory: all clients enter and get heartbeats and a broadcast, some lose their connections and come back, and
//! all are drained.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;
use tokio::time::{interval, sleep};
use tower_chat_rooms::{Admission, ChatRooms, Drain, Heartbeat, History, Limits, Recovery};

use crate::Failure;
use crate::client::{Client, Wire};
use crate::measure::{Cost, phase};
use crate::options::Options;
use crate::tally::Tallies;

/// Clients that connect at the same time, fewer than the default limit of pending connections.
const CONNECTING: usize = 1000;

/// After the host has sent this many messages, other tasks get a turn.
const SENDS_PER_TURN: usize = 64;

/// Bytes for each connection that may still be in use when all have ended, by the runtime and the hash tables.
const MAX_LEFT: i64 = 16;

/// All clients of one subprotocol, and their server.
struct Run<'a> {
    options: &'a Options,
    wire: Wire,
    runtime: Runtime,
    rooms: ChatRooms,
    clients: Vec<Arc<Client>>,
    tallies: Arc<Tallies>,
}

/// Returns the number of faults.
pub(crate) fn run(options: &Options, wire: Wire) -> Result<usize, Failure> {
    let (clients, members) = (options.clients, options.members);
    let what = if wire == Wire::Plain { "plain" } else { "chat-rooms.v1, with sessions and history" };
    println!("\n{clients} connections in rooms of {members}, {what}");
    let mut run = Run::new(options, wire)?;
    let entered = run.enter()?;
    run.stay()?;
    run.broadcast()?;
    let mut heap = entered.heap;
    if wire == Wire::V1 {
        heap += run.talk()?.heap + run.lose()?.heap + run.come_back()?.heap;
    }
    heap += run.drain()?.heap;
    println!("heap after all have left: {heap} bytes");
    let Run { tallies, .. } = run;
    if heap > MAX_LEFT * clients as i64 + 64 * 1024 {
        tallies.faults.add("memory is left");
    }
    Ok(tallies.faults.print())
}

/// The limits that clients of one process would exceed.
pub(crate) fn limits(options: &Options) -> Limits {
    let limits = Limits::default();
    limits.max_connections(options.clients + CONNECTING).max_rooms(options.clients)
}

impl<'a> Run<'a> {
    fn new(options: &'a Options, wire: Wire) -> Result<Run<'a>, Failure> {
        let tallies = Arc::<Tallies>::default();
        let client = |n: usize| {
            let number = n as u32;
            Client::new(number, number / options.members as u32, wire, tallies.clone())
        };
        let heartbeat = Heartbeat::every(options.heartbeat).with_timeout(options.heartbeat * 4 / 5);
        let mut builder =
            ChatRooms::builder().heartbeat(heartbeat).v1_heartbeat(heartbeat).limits(limits(options));
        if wire == Wire::V1 {
            let recovery = Recovery::default().resume_window(options.resume_window);
            builder = builder.recovery(recovery.history(History::last(100)));
        }
        Ok(Run {
            options,
            wire,
            runtime: Builder::new_current_thread().enable_time().build()?,
            rooms: builder.build()?,
            clients: (0..options.clients).map(client).collect(),
            tallies,
        })
    }

    fn rooms(&self) -> usize {
        self.options.clients / self.options.members
    }

    /// The number of clients that lose their connections.
    fn lost(&self) -> impl Iterator<Item = &Arc<Client>> {
        let lost = self.options.resumed();
        let step = self.clients.len() / lost.max(1);
        self.clients.iter().step_by(step.max(1)).take(lost)
    }

    fn connect(&self, client: &Arc<Client>) {
        let admission = match self.wire {
            Wire::Plain => Admission::anonymous(),
            Wire::V1 => Admission::anonymous().with_protocol(HeaderValue::from_static("chat-rooms.v1")),
        };
        let (rooms, socket) = (self.rooms.clone(), client.connect());
        tokio::spawn(async move { rooms.serve(socket, admission).await });
    }

    fn check(&self, what: &str, is: usize, should_be: usize) {
        self.tallies.faults.check(what, is, should_be);
    }

    fn enter(&mut self) -> Result<Cost, Failure> {
        let (clients, members) = (self.clients.len(), self.options.members);
        let (result, cost) = phase(&self.runtime, async {
            let mut connected = 0;
            for batch in self.clients.chunks(CONNECTING) {
                batch.iter().for_each(|client| self.connect(client));
                connected += batch.len() as u64;
                self.tallies.entered.until(connected).await?;
            }
            // Each member learns of those that enter after it.
            self.tallies.enters.until((self.rooms() * members * (members + 1) / 2) as u64).await
        });
        result?;
        cost.print("all enter", clients as u64, "clients");
        let each = |bytes: i64| bytes as f64 / clients as f64;
        println!("  heap {:.0} bytes each, resident memory {:.0}", each(cost.heap), each(cost.resident));
        let stats = self.rooms.stats();
        self.check("connections", stats.connections, clients);
        self.check("sessions", stats.sessions, clients);
        self.check("rooms", stats.rooms, self.rooms());
        for client in &self.clients {
            self.check("members that a client knows of", client.last() as usize, members);
        }
        Ok(cost)
    }

    /// Only heartbeats are sent.
    fn stay(&mut self) -> Result<(), Failure> {
        let (clients, times) = (self.clients.len() as u64, self.options.heartbeats);
        if times == 0 {
            return Ok(());
        }
        let before: Vec<_> = self.clients.iter().map(|client| client.heartbeats()).collect();
        let all = self.tallies.heartbeats.count();
        let ((), cost) = phase(&self.runtime, async { sleep(self.options.heartbeat * times).await });
        let sent = self.tallies.heartbeats.count() - all;
        cost.print("heartbeats", sent, "heartbeats with their answers");
        println!("  {:.2} for each client in {times} intervals", sent as f64 / clients as f64);
        for (client, before) in self.clients.iter().zip(before) {
            // A busy machine may delay the last heartbeat.
            if client.heartbeats() - before + 1 < times {
                self.tallies.faults.add("a client has had too few heartbeats");
            }
        }
        self.check("connections", self.rooms.stats().connections, clients as usize);
        Ok(())
    }

    fn broadcast(&mut self) -> Result<(), Failure> {
        let clients = self.clients.len();
        let news = json!({"event": "news", "message": "x".repeat(self.options.message)});
        let mut returned = Duration::ZERO;
        let (result, cost) = phase(&self.runtime, async {
            let begun = Instant::now();
            let reached = self.rooms.broadcast(&news).await?;
            returned = begun.elapsed();
            self.tallies.broadcasts.until(clients as u64).await?;
            Ok::<_, Failure>(reached)
        });
        cost.print("broadcast", clients as u64, "clients");
        self.check("clients that a broadcast has reached", result?, clients);
        for client in &self.clients {
            self.check("broadcasts that a client has received", client.broadcasts() as usize, 1);
        }
        Ok(())
    }

    /// A message to each room, which all members receive.
    fn talk(&mut self) -> Result<Cost, Failure> {
        let clients = self.clients.len() as u64;
        let (result, cost) = phase(&self.runtime, async {
            self.send_to_rooms().await?;
            Ok::<_, Failure>(self.tallies.messages.until(clients).await?)
        });
        result?;
        cost.print("a message to each room", clients, "deliveries");
        Ok(cost)
    }

    async fn send_to_rooms(&self) -> Result<(), Failure> {
        let message = json!({"event": "message", "message": "x".repeat(self.options.message)});
        for room in 0..self.rooms() {
            drop(self.rooms.send(format!("r{room}"), &message)?);
            if room % SENDS_PER_TURN == 0 {
                yield_now().await;
            }
        }
        Ok(())
    }

    /// Some clients lose their connections, and miss messages.
    fn lose(&mut self) -> Result<Cost, Failure> {
        let lost = self.options.resumed();
        let (result, cost) = phase(&self.runtime, async {
            self.lost().for_each(|client| client.disconnect());
            self.tallies.ended.until(lost as u64).await
        });
        result?;
        cost.print("connections are lost", lost as u64, "sessions");
        let stats = self.rooms.stats();
        self.check("sessions without a connection", stats.absent, lost);
        self.check("connections", stats.connections, self.clients.len() - lost);
        let (result, missed) = phase(&self.runtime, async {
            for _ in 0..self.options.missed {
                let before = self.tallies.messages.count();
                self.send_to_rooms().await?;
                self.tallies.messages.until(before + (self.clients.len() - lost) as u64).await?;
            }
            Ok::<_, Failure>(())
        });
        result?;
        let delivered = (self.clients.len() - lost) * self.options.missed;
        missed.print("messages that they miss", delivered as u64, "deliveries");
        Ok(Cost { heap: cost.heap + missed.heap, ..cost })
    }

    fn come_back(&mut self) -> Result<Cost, Failure> {
        let (lost, before) = (self.options.resumed(), self.rooms.stats());
        let (result, cost) = phase(&self.runtime, async {
            let (mut ticks, begun) = (interval(Duration::from_millis(10)), Instant::now());
            let mut returning = self.lost();
            for n in 0..lost {
                while begun.elapsed() < self.options.resume_over.mul_f64(n as f64 / lost as f64) {
                    ticks.tick().await;
                }
                self.connect(returning.next().expect("a lost client"));
                if n % SENDS_PER_TURN == 0 {
                    yield_now().await;
                }
            }
            self.tallies.recovered.until(lost as u64).await?;
            let all = self.clients.len() * (1 + self.options.missed);
            Ok::<_, Failure>(self.tallies.messages.until(all as u64).await?)
        });
        result?;
        cost.print("sessions are resumed", lost as u64, "sessions");
        let stats = self.rooms.stats();
        self.check("sessions without a connection", stats.absent, 0);
        self.check("sessions", stats.sessions, self.clients.len());
        self.check("sessions resumed", (stats.resumed - before.resumed) as usize, lost);
        self.check(
            "frames replayed",
            (stats.replayed - before.replayed) as usize,
            lost * self.options.missed,
        );
        self.check(
            "messages",
            self.tallies.messages.count() as usize,
            self.clients.len() * (1 + self.options.missed),
        );
        // The other members have received no enter and no leave.
        let (members, rooms) = (self.options.members, self.rooms());
        self.check("enters", self.tallies.enters.count() as usize, rooms * members * (members + 1) / 2);
        self.check("leaves", self.tallies.outs.count() as usize, 0);
        Ok(cost)
    }

    fn drain(&mut self) -> Result<Cost, Failure> {
        let clients = self.clients.len();
        let ended = self.tallies.ended.count() as usize;
        let (result, cost) = phase(&self.runtime, async {
            let drained = self.rooms.drain(Drain::over(self.options.drain)).await;
            self.tallies.closed.until(clients as u64).await?;
            self.tallies.ended.until((ended + clients) as u64).await?;
            Ok::<_, Failure>(drained)
        });
        let drained = result?;
        cost.print("drain", clients as u64, "clients");
        self.check("clients that were told to reconnect", drained.closed, clients);
        self.check("connections that are still open", drained.open, 0);
        // Each member learns of those that leave before it.
        let members = self.options.members;
        self.check("leaves", self.tallies.outs.count() as usize, self.rooms() * members * (members - 1) / 2);
        let ((), end) = phase(&self.runtime, self.rooms.shutdown());
        let stats = self.rooms.stats();
        self.check("connections", stats.connections, 0);
        self.check("sessions", stats.sessions, 0);
        self.check("rooms", stats.rooms, 0);
        self.check("tasks", self.runtime.metrics().num_alive_tasks(), 0);
        Ok(Cost { heap: cost.heap + end.heap, ..cost })
    }
}
