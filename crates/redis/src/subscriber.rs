//! The connection on which a node hears its rooms. This loop connects it again without end, and checks that it is not
//! deaf: a connection to a server that was demoted is healthy for TCP, but nothing arrives.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, PushInfo, PushKind, RedisError, Value, cmd};
use tokio::select;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::debug;

use crate::codec::{self, Message};
use crate::connector::Connector;
use crate::error::ConnectError;
use crate::hub::Subscription;
use crate::inner::Inner;
use crate::link::{Command, Link, RESPONSE_TIMEOUT};
use crate::sessions::Put;
use crate::status::Part;
use crate::sync::{Mutex, lock};

/// Channels that are subscribed to with one command.
const BATCH: usize = 512;
/// Between two probes.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);

/// The connection on which a node hears its rooms.
pub(crate) struct Subscriber {
    inner: Arc<Inner>,
    connector: Connector,
    wanted: mpsc::UnboundedReceiver<Subscription>,
    /// Those who wait for a subscription that the next connection will confirm.
    waiting: Vec<oneshot::Sender<()>>,
    /// Only the latest connection may deliver.
    latest: Arc<Mutex<u64>>,
    probes: u64,
}

/// One connection.
pub(crate) struct Connection {
    connection: MultiplexedConnection,
    is_lost: Arc<Notify>,
}

impl Subscriber {
    pub(crate) fn new(
        inner: Arc<Inner>,
        connector: Connector,
        wanted: mpsc::UnboundedReceiver<Subscription>,
    ) -> Subscriber {
        Subscriber { inner, connector, wanted, waiting: Vec::new(), latest: Arc::default(), probes: 0 }
    }

    /// Runs until the node is closed, beginning with this connection.
    pub(crate) async fn run(mut self, mut connection: Connection) {
        loop {
            let error = self.serve(&mut connection).await;
            debug!(%error, "lost the connection on which this node hears its rooms");
            let reason = format!("the connection on which this node hears its rooms was lost: {error}");
            self.inner.status.fails(Part::Subscriber, &reason);
            drop(connection);
            let mut backoff = self.connector.backoff();
            connection = loop {
                sleep(backoff.next_wait()).await;
                match self.connect().await {
                    Ok(connection) => break connection,
                    Err(error) => self.inner.status.fails(Part::Subscriber, &error.full_text()),
                }
            };
            self.inner.status.works(Part::Subscriber);
            // Other nodes may have taken over sessions meanwhile. If Redis cannot be asked, the next incarnation asks.
            let inner = self.inner.clone();
            let node = inner.registration.node();
            self.inner.spawn(async move { inner.put_sessions(&node, Put::Whole).await });
        }
    }

    /// Connects, and subscribes to all rooms of the node. Then their logs are read for what was missed.
    pub(crate) async fn connect(&mut self) -> Result<Connection, ConnectError> {
        let number = {
            let mut latest = lock(&self.latest);
            *latest += 1;
            *latest
        };
        let (inner, latest) = (self.inner.clone(), self.latest.clone());
        let is_lost = Arc::new(Notify::new());
        let tell_lost = is_lost.clone();
        let receive = move |push: PushInfo| -> Result<(), RedisError> {
            if push.kind == PushKind::Disconnection {
                tell_lost.notify_one();
            } else if push.kind == PushKind::Message && *lock(&latest) == number {
                receive(&inner, push);
            }
            Ok(())
        };
        let config = AsyncConnectionConfig::new().set_push_sender(receive);
        let mut connection = self.connector.open("subscriber", config).await?;

        let keys = &self.inner.keys;
        let by_number = keys.numbered_channel(self.inner.registration.number());
        let mut channels = vec![keys.control(), keys.node_channel(&self.inner.name), by_number];
        let own = channels.len();
        channels.extend(self.inner.hub.names().iter().map(|room| keys.channel(room)));
        for batch in channels.chunks(BATCH) {
            let subscribed = connection.subscribe(batch).await;
            subscribed.map_err(|error| ConnectError::at(&self.connector.servers(), error))?;
        }
        self.inner.hub.set_all_stale();
        for done in self.waiting.drain(..) {
            let _ = done.send(());
        }
        if channels.len() > own {
            debug!(rooms = channels.len() - own, "subscribed to this node's rooms again");
        }
        Ok(Connection { connection, is_lost })
    }

    /// Subscribes and unsubscribes until the connection is lost, and returns why.
    async fn serve(&mut self, connection: &mut Connection) -> RedisError {
        let mut next_probe = Instant::now() + PROBE_INTERVAL;
        loop {
            let result = select! {
                wanted = self.wanted.recv() => match wanted {
                    Some(wanted) => self.change(&mut connection.connection, wanted).await,
                    None => return lost("the node was closed"),
                },
                () = connection.is_lost.notified() => return lost("the server has closed it"),
                () = sleep_until(next_probe) => {
                    next_probe = Instant::now() + PROBE_INTERVAL;
                    self.probe(&mut connection.connection).await
                }
            };
            if let Err(error) = result {
                return error;
            }
        }
    }

    /// Does what is wanted, in that order, and all that is wanted of the same kind at once.
    async fn change(
        &mut self,
        connection: &mut MultiplexedConnection,
        first: Subscription,
    ) -> Result<(), RedisError> {
        let mut next = Some(first);
        while let Some(wanted) = next.take() {
            let is_begin = matches!(wanted, Subscription::Begin(..));
            let mut channels = vec![self.take(wanted)];
            while channels.len() < BATCH
                && let Ok(wanted) = self.wanted.try_recv()
            {
                if matches!(wanted, Subscription::Begin(..)) != is_begin {
                    next = Some(wanted);
                    break;
                }
                channels.push(self.take(wanted));
            }
            if is_begin {
                connection.subscribe(&channels).await?;
                for done in self.waiting.drain(..) {
                    let _ = done.send(());
                }
            } else {
                connection.unsubscribe(&channels).await?;
            }
        }
        Ok(())
    }

    /// The channel of a change. If this connection breaks, those that wait for the change wait for the next connection.
    fn take(&mut self, wanted: Subscription) -> String {
        let room = match wanted {
            Subscription::Begin(room, done) => {
                self.waiting.push(done);
                room
            }
            Subscription::End(room) => room,
        };
        self.inner.keys.channel(&room)
    }

    /// Checks that the server answers, and that what is published on the other connection arrives on this one.
    async fn probe(&mut self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        cmd("PING").query_async::<()>(connection).await?;
        self.probes += 1;
        let (number, mut heard) = (self.probes, self.inner.hub.probe());
        let own = self.inner.registration.number();
        let (channel, payload) = (self.inner.keys.numbered_channel(own), codec::encode_probe(number));
        let prepare = |_: &Link| Command::Plain(cmd("PUBLISH").arg(&channel).arg(&payload).take());
        let deadline = Some(Instant::now() + RESPONSE_TIMEOUT);
        let publish = self.inner.commands.run::<u64>(deadline, prepare);
        if publish.await.is_err() {
            // This says nothing of the subscriber's connection.
            return Ok(());
        }
        match timeout(RESPONSE_TIMEOUT, heard.wait_for(|heard| *heard >= number)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(lost("a probe has not arrived")),
        }
    }
}

fn receive(inner: &Inner, push: PushInfo) {
    if let Ok([Value::BulkString(channel), Value::BulkString(payload)]) = <[Value; 2]>::try_from(push.data)
        && let Ok(channel) = std::str::from_utf8(&channel)
        && let Some(message) = inner.hub.receive(channel, Bytes::from(payload))
    {
        match message {
            Message::SessionTaken { session, generation } => inner.session_taken(&session, generation),
            Message::Unannounced { session, member, room } => inner.announce(&session, member, room),
            _ => {}
        }
    }
}

fn lost(why: &'static str) -> RedisError {
    RedisError::from((ErrorKind::Io, why))
}
