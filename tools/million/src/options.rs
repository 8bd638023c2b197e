//! The command line.

use std::time::Duration;

use clap::Parser;

use crate::Failure;

/// Holds a million connections in one process, and measures what they cost.
///
/// The clients are in the same process, without sockets. --sockets measures the kernel's memory, with at most as many
/// connections as there may be open files. If there is a fault, the exit code is 1.
#[derive(Debug, Clone, Parser)]
pub(crate) struct Options {
    /// Number of clients: a multiple of --members
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) clients: usize,

    /// Members of a room
    #[arg(long, default_value_t = 10)]
    pub(crate) members: usize,

    /// Time between two heartbeats of a connection. The answer may take four fifths of this time
    #[arg(long, default_value = "25s", value_parser = humantime::parse_duration)]
    pub(crate) heartbeat: Duration,

    /// Number of intervals for which the heartbeats are measured
    #[arg(long, default_value_t = 2)]
    pub(crate) heartbeats: u32,

    /// Bytes of the text of a message
    #[arg(long, default_value_t = 64)]
    pub(crate) message: usize,

    /// Number of clients of `chat-rooms.v1` that lose their connections
    #[arg(long, default_value_t = 100_000)]
    resumed: usize,

    /// Messages that each of these clients misses
    #[arg(long, default_value_t = 3)]
    pub(crate) missed: usize,

    /// Time over which these clients come back
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub(crate) resume_over: Duration,

    /// How long sessions are kept
    #[arg(long, default_value = "10m", value_parser = humantime::parse_duration)]
    pub(crate) resume_window: Duration,

    /// Time over which connections are closed at the end
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) drain: Duration,

    /// Only plain clients
    #[arg(long, conflicts_with = "v1")]
    plain: bool,

    /// Only clients of `chat-rooms.v1`
    #[arg(long)]
    v1: bool,

    /// Measure the kernel's memory instead, with this many connections over TCP
    #[arg(long)]
    pub(crate) sockets: Option<usize>,

    /// Run as the clients of --sockets
    #[arg(long, hide = true, requires = "sockets")]
    pub(crate) connect: Option<std::net::SocketAddr>,
}

impl Options {
    pub(crate) fn read() -> Result<Options, Failure> {
        Options::parse().checked()
    }

    pub(crate) fn checked(self) -> Result<Options, Failure> {
        if self.members == 0 || self.clients == 0 || !self.clients.is_multiple_of(self.members) {
            return Err("--clients must be a multiple of --members".into());
        }
        if u32::try_from(self.clients).is_err() {
            return Err("too many clients".into());
        }
        Ok(self)
    }

    /// Clients that lose their connections.
    pub(crate) fn resumed(&self) -> usize {
        self.resumed.min(self.clients)
    }

    pub(crate) fn has_plain(&self) -> bool {
        !self.v1
    }

    pub(crate) fn has_v1(&self) -> bool {
        !self.plain
    }
}
