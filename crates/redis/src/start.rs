//! The start of a node: it opens the connections, gets a lease, and begins the node's tasks.

use std::sync::Arc;

use tokio::sync::Mutex as AsyncMutex;
use tokio::task::JoinHandle;

use crate::connector::{Connector, Start};
use crate::error::{ConnectError, Unavailable};
use crate::hub::Hub;
use crate::inner::{Inner, MessageIds, Publishers, Tasks};
use crate::keys::Keys;
use crate::lease::Registration;
use crate::link::Commands;
use crate::profiles::Profiles;
use crate::queue::Queue;
use crate::scripts::Scripts;
use crate::settings::{Checked, Settings};
use crate::status::Status;
use crate::subscriber::Subscriber;
use crate::sync::Mutex;
use crate::users::Users;

/// A node that has started. Its tasks end when [`Inner::close`] is called.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) inner: Arc<Inner>,
    /// The task that keeps the lease.
    pub(crate) lease: JoinHandle<Option<()>>,
}

/// Starts a node. If Redis cannot be reached, the settings decide whether this waits or fails.
pub(crate) async fn start(settings: Settings) -> Result<Started, ConnectError> {
    let settings = settings.check()?;
    let scripts = Arc::new(Scripts::new(Keys::new(&settings.prefix), &settings));
    let connector = Connector::new(&settings, scripts.clone()).loading_function();
    let mut start = Start::new(&connector);
    loop {
        match connector.explain(attempt(&settings, &connector, &scripts).await).await {
            Err(error) if error.is_temporary() && settings.wait_for_redis => start.wait(&error).await,
            result => return result.inspect(|_| start.log_end()),
        }
    }
}

/// Tries once to start a node.
async fn attempt(
    settings: &Checked,
    connector: &Connector,
    scripts: &Arc<Scripts>,
) -> Result<Started, ConnectError> {
    let commands = Commands::new(connector.open_link(None).await?);
    let keys = Keys::new(&settings.prefix);
    let queue = Arc::new(Queue::new(settings.max_queued_bytes));
    let status = Arc::new(Status::new(connector.servers(), Some(queue.clone())));
    let (hub, requests) = Hub::new(keys.clone(), queue, status.clone());
    let inner = Arc::new(Inner {
        name: settings.node_name.clone(),
        scripts: scripts.clone(),
        keys,
        lease: settings.lease,
        commands,
        hub,
        status,
        registration: Registration::new(&settings.node_name),
        publishers: Publishers::default(),
        profiles: Profiles::default(),
        reentry: AsyncMutex::default(),
        message_ids: MessageIds::new(),
        tasks: Tasks::new(),
        sessions: Mutex::default(),
        users: Users::default(),
    });
    let mut subscriber = Subscriber::new(inner.clone(), connector.clone(), requests.subscriptions);
    let subscribed = subscriber.connect().await?;
    inner.spawn(subscriber.run(subscribed));
    inner.spawn(inner.commands.clone().keep_connected(connector.clone(), inner.status.clone()));
    inner.spawn(inner.clone().read_logs(requests.reads));
    if let Err(Unavailable) = inner.register().await {
        inner.close();
        return Err(ConnectError::refused());
    }
    inner.spawn(inner.clone().reap_lost_nodes());
    inner.spawn(inner.clone().report_recoveries());
    let lease = inner.spawn(inner.clone().keep_lease());
    Ok(Started { inner, lease })
}
