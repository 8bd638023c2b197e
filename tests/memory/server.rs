//! Chat rooms with their runtime in paused time.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tower_chat_rooms::{Admission, ChatRooms, Heartbeat, Limits, RateLimits, SlowConsumer};

use crate::client::Client;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) struct Server {
    runtime: Runtime,
    rooms: ChatRooms,
}

impl Server {
    pub(crate) fn new() -> Server {
        Server::with(SlowConsumer::Close, Limits::default())
    }

    /// Without rate limits, and with heartbeats so rare that none is sent while memory is measured.
    pub(crate) fn with(slow: SlowConsumer, limits: Limits) -> Server {
        let unlimited = RateLimits::default()
            .max_messages_per_second(u32::MAX)
            .max_bytes_per_second(usize::MAX)
            .max_enters_per_minute(u32::MAX);
        let rooms = ChatRooms::builder()
            .heartbeat(Heartbeat::every(HOUR))
            .rate_limits(unlimited)
            .limits(limits)
            .slow_consumer(slow)
            .build();
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        Server { runtime: runtime.unwrap(), rooms: rooms.unwrap() }
    }

    pub(crate) fn rooms(&self) -> &ChatRooms {
        &self.rooms
    }

    /// Connects clients, each of which enters its room.
    pub(crate) fn connect(&self, clients: &[Client]) {
        self.connect_as(clients, Admission::anonymous);
    }

    pub(crate) fn connect_as(&self, clients: &[Client], admission: impl Fn() -> Admission) {
        for client in clients {
            let (rooms, socket, admission) = (self.rooms.clone(), client.connect(), admission());
            self.runtime.spawn(async move { rooms.serve(socket, admission).await });
            client.send(client.enter_frame());
            self.run();
        }
    }

    /// Runs all tasks until they wait for something.
    pub(crate) fn run(&self) {
        // Paused time advances only when no task can run.
        self.wait(Duration::from_millis(1));
    }

    /// The same, until this many messages were sent to rooms: senders may have to wait for a slow member.
    pub(crate) fn run_until_sent(&self, messages: u64) {
        self.run();
        while self.rooms.stats().messages < messages {
            self.wait(Duration::from_millis(100));
        }
    }

    pub(crate) fn wait(&self, time: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }

    pub(crate) fn tasks(&self) -> usize {
        self.runtime.metrics().num_alive_tasks()
    }
}
