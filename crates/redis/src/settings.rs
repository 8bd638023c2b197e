//! What a node needs to know before it connects.

use std::fmt;
use std::time::Duration;

use crate::error::ConnectError;
use crate::random;
use crate::servers::{Certificates, Servers};

/// How a node finds Redis, and what it keeps there. All nodes that share rooms need the same settings, except for the
/// URL and the node's name.
///
/// ```
/// use std::time::Duration;
/// use tower_chat_rooms_redis::Settings;
///
/// let settings = Settings::new("redis://127.0.0.1:6379/0").prefix("shop-chat").lease(Duration::from_secs(5));
/// ```
#[derive(Clone)]
#[must_use]
pub struct Settings {
    url: String,
    sentinel_password: Option<String>,
    certificates: Certificates,
    prefix: String,
    node_name: Option<String>,
    lease: Duration,
    log_length: Option<u32>,
    log_bytes: Option<u64>,
    log_age: Option<Duration>,
    message_id_window: Option<Duration>,
    max_queued_bytes: usize,
    wait_for_redis: bool,
}

impl Settings {
    /// Creates settings for the server at this URL.
    ///
    /// | where Redis is | URL |
    /// |---|---|
    /// | one server | `redis://[user:password@]host[:port][/db]` |
    /// | a Unix socket | `redis+unix:///path[?db=1&user=ann&pass=secret]` |
    /// | a master that sentinels watch | `redis+sentinel://[user:password@]host[:port][,host[:port]]…/master[/db]` |
    /// | a cluster | `redis+cluster://[user:password@]host[:port][,host[:port]]…` |
    ///
    /// With `rediss` instead of `redis`, all connections use TLS. This needs the feature `tls`, which is `redis-tls` in
    /// tower-chat-rooms. ring becomes the process's crypto provider for rustls, unless you have installed another one.
    /// Percent-encode special characters in all parts of the URL.
    ///
    /// With sentinels, the user, the password and the database in the URL are for the master. In a cluster, one server
    /// has all rooms of a prefix: the server that has the slot of the prefix.
    pub fn new(url: impl Into<String>) -> Settings {
        Settings {
            url: url.into(),
            sentinel_password: None,
            certificates: Certificates::default(),
            prefix: "chat".to_owned(),
            node_name: None,
            lease: Duration::from_secs(10),
            log_length: None,
            log_bytes: None,
            log_age: None,
            message_id_window: None,
            max_queued_bytes: 16 << 20,
            wait_for_redis: true,
        }
    }

    /// Sets the password of the sentinels themselves. Default: none.
    pub fn sentinel_password(self, password: impl Into<String>) -> Settings {
        Settings { sentinel_password: Some(password.into()), ..self }
    }

    /// Sets the certificates, in PEM, of the CAs that may sign the server's certificate. Default: the CAs that the
    /// system trusts.
    pub fn ca_certificate(self, pem: impl Into<Vec<u8>>) -> Settings {
        Settings { certificates: Certificates { ca: Some(pem.into()), ..self.certificates }, ..self }
    }

    /// Sets this process's own certificate with its chain, and its key, both in PEM, for a server with
    /// `tls-auth-clients`. Default: none.
    pub fn client_certificate(self, pem: impl Into<Vec<u8>>, key_pem: impl Into<Vec<u8>>) -> Settings {
        let client = Some((pem.into(), key_pem.into()));
        Settings { certificates: Certificates { client, ..self.certificates }, ..self }
    }

    /// Sets the prefix of all keys and channels. Nodes with the same prefix share rooms, even if their URLs have
    /// different database numbers, because Redis's channels do not belong to a database. Default: `chat`.
    pub fn prefix(self, prefix: impl Into<String>) -> Settings {
        Settings { prefix: prefix.into(), ..self }
    }

    /// Sets the node's name, which appears in logs and in the keys in Redis: letters, digits, `-`, `_` and `.`. Each
    /// node needs a different name. Default: random.
    pub fn node_name(self, name: impl Into<String>) -> Settings {
        Settings { node_name: Some(name.into()), ..self }
    }

    /// Sets how long the members of a node that is gone stay in their rooms. The node renews its lease three times in
    /// this time. At least 1 s. Default: 10 s.
    pub fn lease(self, lease: Duration) -> Settings {
        Settings { lease, ..self }
    }

    /// Sets how many events of each room are kept for nodes and clients that have missed some. If there are more, the
    /// oldest eighth is removed. Default: 1,000 in addition to what the histories need.
    pub fn log_length(self, events: u32) -> Settings {
        Settings { log_length: Some(events), ..self }
    }

    /// Sets how many bytes the kept events of a room may have. If there are more, the oldest eighth is removed. The
    /// latest event is always kept. Default: 4 MiB in addition to what the histories need.
    pub fn log_bytes(self, bytes: u64) -> Settings {
        Settings { log_bytes: Some(bytes), ..self }
    }

    /// Sets how long the log of a room is kept after its latest event. Default: 1 h, or longer if the sessions of lost
    /// connections are kept for longer.
    pub fn log_age(self, age: Duration) -> Settings {
        Settings { log_age: Some(age), ..self }
    }

    /// Sets how long a message that is sent again under its id is recognised, unless the room gets more than 10,000
    /// messages in this time. Default: 2 min, or longer if the sessions of lost connections are kept for longer.
    pub fn message_id_window(self, window: Duration) -> Settings {
        Settings { message_id_window: Some(window), ..self }
    }

    /// Sets how many bytes of events may wait in this process until it handles them. If there are more, the process
    /// reads the rest from the logs later. Default: 16 MiB.
    pub fn max_queued_bytes(self, bytes: usize) -> Settings {
        Settings { max_queued_bytes: bytes, ..self }
    }

    /// Sets whether connecting waits while Redis cannot be reached. With `false`, it fails. It always fails if waiting
    /// cannot help, for example if the password is wrong. Default: true.
    pub fn wait_for_redis(self, wait: bool) -> Settings {
        Settings { wait_for_redis: wait, ..self }
    }

    pub(crate) fn check(self) -> Result<Checked, ConnectError> {
        let invalid = |what: String| Err(ConnectError::settings(what));
        if self.prefix.is_empty() || self.prefix.contains(['{', '}']) {
            return invalid(format!("the prefix {:?} must not be empty nor contain braces", self.prefix));
        }
        if self.lease < Duration::from_secs(1) {
            return invalid(format!("the lease is {:?}, but must be at least 1 s", self.lease));
        }
        let is_short = |time: Option<Duration>| time.is_some_and(|time| time < Duration::from_secs(1));
        if self.log_length == Some(0) || is_short(self.log_age) {
            return invalid("the log must keep at least one event for at least 1 s".to_owned());
        }
        if is_short(self.message_id_window) {
            return invalid("the window of message ids must be at least 1 s".to_owned());
        }
        let name = self.node_name.unwrap_or_else(|| format!("{:08x}", random::number() as u32));
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(is_allowed) {
            return invalid(format!(
                "the node's name {name:?} must have 1 to 64 letters, digits, `-`, `_` and `.`"
            ));
        }
        Ok(Checked {
            servers: Servers::parse(&self.url, self.sentinel_password.as_deref(), self.certificates)?,
            prefix: self.prefix,
            node_name: name,
            lease: self.lease,
            log: LogSettings {
                length: self.log_length,
                bytes: self.log_bytes,
                age: self.log_age,
                message_id_window: self.message_id_window,
            },
            max_queued_bytes: self.max_queued_bytes,
            wait_for_redis: self.wait_for_redis,
        })
    }
}

/// What the logs of rooms must keep, for [`Node::keep_logs`](crate::Node::keep_logs).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogNeeds {
    /// The latest events of each room.
    pub events: u32,
    /// The bytes of these events.
    pub bytes: u64,
    /// How long events are needed.
    pub age: Duration,
    /// How long a message may be repeated under its id.
    pub message_id_window: Duration,
}

/// What the settings say about logs; `None` where they leave it to the crate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogSettings {
    length: Option<u32>,
    bytes: Option<u64>,
    age: Option<Duration>,
    message_id_window: Option<Duration>,
}

impl LogSettings {
    /// The limits of logs that meet these needs, and also those of nodes that have missed events.
    pub(crate) fn limits(self, needs: LogNeeds) -> LogLimits {
        let LogNeeds { events, bytes, age, message_id_window } = needs;
        let (hour, max) = (Duration::from_secs(3600), Duration::from_secs(1 << 32));
        LogLimits {
            events: self.length.unwrap_or(events.saturating_add(1000)),
            bytes: self.bytes.unwrap_or(bytes.saturating_add(4 << 20)),
            age: self.age.unwrap_or(age.max(hour)).min(max),
            message_id_window: self
                .message_id_window
                .unwrap_or(message_id_window.max(Duration::from_secs(120)))
                .min(max),
        }
    }
}

/// What logs keep.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogLimits {
    pub(crate) events: u32,
    pub(crate) bytes: u64,
    pub(crate) age: Duration,
    pub(crate) message_id_window: Duration,
}

/// Without the URL and the key, which are secret.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("prefix", &self.prefix)
            .field("node_name", &self.node_name)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

/// Settings that fit together.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) servers: Servers,
    pub(crate) prefix: String,
    pub(crate) node_name: String,
    pub(crate) lease: Duration,
    pub(crate) log: LogSettings,
    pub(crate) max_queued_bytes: usize,
    pub(crate) wait_for_redis: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ConnectErrorKind;

    fn check_refuses(settings: Settings) {
        let error = settings.clone().check().expect_err(&format!("{settings:?} should be refused"));
        assert_eq!(error.kind(), ConnectErrorKind::Settings);
    }

    #[test]
    fn good_settings_pass() {
        for url in
            ["redis://h", "redis://u:p@h:1/2", "redis+unix:///run/redis.sock", "unix:///run/redis.sock"]
        {
            Settings::new(url).node_name("a-1_b.c").check().expect(url);
        }
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let good = || Settings::new("redis://h");
        check_refuses(Settings::new("http://h"));
        check_refuses(Settings::new(""));
        check_refuses(good().prefix(""));
        check_refuses(good().prefix("a{b"));
        check_refuses(good().node_name("a:b"));
        check_refuses(good().node_name(""));
        check_refuses(good().lease(Duration::from_millis(999)));
        check_refuses(good().log_length(0));
        check_refuses(good().message_id_window(Duration::ZERO));
    }

    #[test]
    fn logs_keep_what_is_needed_unless_the_settings_say_otherwise() {
        let checked = Settings::new("redis://h").log_bytes(7).check().unwrap();
        let secs = Duration::from_secs;
        let needs = LogNeeds { events: 500, bytes: 1, age: secs(4000), message_id_window: secs(60) };
        let limits = checked.log.limits(needs);
        assert_eq!((limits.events, limits.bytes), (1500, 7));
        assert_eq!((limits.age, limits.message_id_window), (secs(4000), secs(120)));
    }

    #[test]
    fn tls_needs_the_feature() {
        assert_eq!(Settings::new("rediss://h").check().is_ok(), cfg!(feature = "tls"));
    }

    #[test]
    fn errors_do_not_show_the_password() {
        let settings = Settings::new("redis:/u:secret@h");
        assert!(!format!("{settings:?}").contains("secret"));
        let error = settings.check().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
}
