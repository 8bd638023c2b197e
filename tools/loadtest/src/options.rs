//! The flags, and what they mean for each scenario.

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};
use http::Uri;

/// Loads chat rooms, and measures throughput, latency and losses.
///
/// Without --url a server without limits runs in this process, on a free port of 127.0.0.1. The
/// latency of a message counts from the time at which it was due, so that a server that falls
/// behind can't hide it.
#[derive(Debug, Clone, Parser)]
#[command(name = "loadtest", version)]
pub(crate) struct Options {
    /// URL of the server to load; ws:// only. Repeat it for servers that share their rooms: the members
    /// of each room are spread over them [default: a server in this process]
    #[arg(long)]
    pub(crate) url: Vec<Uri>,

    /// The kind of load
    #[arg(long, value_enum, default_value_t = Scenario::Rate)]
    pub(crate) scenario: Scenario,

    /// Rooms [default: 20; enter: 1]
    #[arg(long, value_parser = at_least_one)]
    rooms: Option<usize>,

    /// Members of each room, each with its own connection [default: 20; enter: 400]
    #[arg(long, value_parser = at_least_one)]
    members: Option<usize>,

    /// How many members of each room send
    #[arg(long, default_value = "1", value_parser = at_least_one)]
    senders: usize,

    /// Messages per second, of all senders together [rate, burst]
    #[arg(long, default_value_t = 500.0, value_parser = rate)]
    pub(crate) rate: f64,

    /// Messages that each room receives at the same time; --rate determines how often [burst]
    #[arg(long, default_value = "10", value_parser = at_least_one)]
    pub(crate) burst: usize,

    /// Let only every Nth member of a room read, and the senders. What the others get waits in the kernel, so the load
    /// generator needs less CPU. The server's heartbeat must be longer than the run [rate, burst]
    #[arg(long, value_name = "N", default_value = "1", value_parser = at_least_one)]
    read_every: usize,

    /// Unanswered messages of each sender [flood]
    #[arg(long, default_value = "1", value_parser = at_least_one)]
    pub(crate) window: usize,

    /// Bytes of a message's text, at least the 30 or so of its time stamp
    #[arg(long, default_value_t = 64)]
    pub(crate) size: usize,

    /// Time to measure; for enter, the longest that it may take
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub(crate) duration: Duration,

    /// Time under load before measuring
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub(crate) warmup: Duration,

    /// Speak the subprotocol chat-rooms.v1: each message has an id and is acknowledged
    #[arg(long)]
    pub(crate) v1: bool,

    /// Threads of the load generator [default: half of the cores]
    #[arg(long, value_parser = at_least_one)]
    threads: Option<usize>,

    /// Heartbeat interval of the server in this process
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration, conflicts_with = "url")]
    pub(crate) heartbeat: Duration,

    /// Process id of the server at --url, just started, to measure its memory per connection and
    /// its CPU time per delivery (Linux). Repeat it for several processes, which are added up
    #[arg(long, requires = "url")]
    pub(crate) pid: Vec<u32>,

    /// Also write the results to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Append the results to this file as one line of key=value tokens, for tools/plot
    #[arg(long, value_name = "FILE")]
    pub(crate) line: Option<PathBuf>,

    /// A token at the end of that line, for example peer=NAME
    #[arg(long = "tag", value_name = "KEY=VALUE", requires = "line", value_parser = tag)]
    pub(crate) tags: Vec<String>,

    /// Load a server that is not on this machine; only ever one of your own
    #[arg(long)]
    pub(crate) allow_remote: bool,
}

/// The load once all have connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// All have entered; messages are due at a constant rate, no matter what the server does (open loop)
    Rate,
    /// The same rate in bursts, in all rooms at the same time
    Burst,
    /// Each sender sends again as soon as its own message has arrived (closed loop)
    Flood,
    /// All have entered, and there are only heartbeats
    Idle,
    /// All are connected and enter at the same time; each receives the enters after its own
    Enter,
}

impl Options {
    /// Parses the flags of this process. Exits if they are invalid.
    pub(crate) fn read() -> Options {
        let options = Options::parse();
        if let Err(text) = options.check() {
            Options::command().error(ErrorKind::ValueValidation, text).exit();
        }
        options
    }

    pub(crate) fn rooms(&self) -> usize {
        self.rooms.unwrap_or(if self.scenario == Scenario::Enter { 1 } else { 20 })
    }

    pub(crate) fn members(&self) -> usize {
        self.members.unwrap_or(if self.scenario == Scenario::Enter { 400 } else { 20 })
    }

    pub(crate) fn senders(&self) -> usize {
        self.senders.min(self.members())
    }

    /// Whether this connection reads while messages are measured.
    pub(crate) fn reads(&self, index: usize) -> bool {
        let member = index % self.members();
        member < self.senders() || member.is_multiple_of(self.read_every) || !self.is_paced()
    }

    /// The number of members divided by the number of those that read.
    pub(crate) fn members_per_reader(&self) -> f64 {
        let readers = (0..self.members()).filter(|member| self.reads(*member)).count();
        self.members() as f64 / readers as f64
    }

    fn is_paced(&self) -> bool {
        matches!(self.scenario, Scenario::Rate | Scenario::Burst)
    }

    pub(crate) fn connections(&self) -> usize {
        self.rooms() * self.members()
    }

    pub(crate) fn threads(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or((cores / 2).max(1))
    }

    /// The scenario in words.
    pub(crate) fn describe(&self) -> String {
        let (rooms, members) = (self.rooms(), self.members());
        let what = match self.scenario {
            Scenario::Rate => format!("{} messages/s of {} bytes", self.rate, self.size),
            Scenario::Burst => format!(
                "{} messages/s of {} bytes in bursts of {} per room",
                self.rate, self.size, self.burst
            ),
            Scenario::Flood => format!(
                "{} sender(s) per room with {} unanswered message(s) of {} bytes each",
                self.senders(),
                self.window,
                self.size
            ),
            Scenario::Idle => "heartbeats only".into(),
            Scenario::Enter => "all enter at the same time".into(),
        };
        let protocol = if self.v1 { ", chat-rooms.v1" } else { "" };
        let readers = if self.members_per_reader() > 1.0 {
            format!(", one in {} members reads", self.read_every)
        } else {
            String::new()
        };
        format!("{}: {rooms} room(s) of {members}, {what}{protocol}{readers}", self.scenario.name())
    }

    fn check(&self) -> Result<(), String> {
        // Clients that do not read do not answer heartbeats, and do not see that they are closed.
        let run = self.warmup.saturating_add(self.duration);
        if self.members_per_reader() > 1.0 && self.url.is_empty() && self.heartbeat <= run {
            return Err(
                "--read-every needs a --heartbeat that is longer than --warmup and --duration together"
                    .into(),
            );
        }
        self.url.iter().try_for_each(|url| match url.scheme_str() {
            Some("ws") if url.host().is_some() => Ok(()),
            Some("wss") => Err("wss:// is not supported: load the server behind its TLS proxy".into()),
            _ => Err(format!("{url} is not a WebSocket URL; use one such as ws://127.0.0.1:3000/")),
        })
    }
}

impl Scenario {
    /// Its name in the flag.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned())
    }
}

fn tag(text: &str) -> Result<String, String> {
    let is_token = text.contains('=') && !text.contains(char::is_whitespace);
    is_token.then(|| text.to_owned()).ok_or_else(|| "must be KEY=VALUE without spaces".into())
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "must be a number, at least 1".into())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "must be a number above 0".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_do_not_read_need_a_long_heartbeat() {
        let check = |flags: &str| {
            let flags = ["loadtest"].into_iter().chain(flags.split_whitespace());
            Options::try_parse_from(flags).unwrap().check()
        };
        assert!(check("--read-every 10").is_err());
        assert!(check("--read-every 10 --heartbeat 12s").is_err());
        for valid in [
            "",
            "--read-every 10 --heartbeat 13s",
            "--read-every 10 --scenario idle",
            "--read-every 10 --url ws://a/",
        ] {
            assert_eq!(check(valid), Ok(()), "{valid}");
        }
    }

    /// The commands for the load generator in docs/cookbook/load-testing.md.
    #[test]
    fn the_documented_commands_are_valid() {
        let page = include_str!("../../../docs/cookbook/load-testing.md").replace("\\\n", "");
        let mut count = 0;
        for line in page.lines().filter(|line| line.starts_with("target/release/loadtest ")) {
            let options = Options::try_parse_from(line.replace("$!", "1").split_whitespace())
                .unwrap_or_else(|error| panic!("{line}\n{error}"));
            options.check().unwrap_or_else(|error| panic!("{line}\n{error}"));
            count += 1;
        }
        assert!(count > 3, "the page has only {count} commands");
    }
}
