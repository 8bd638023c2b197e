//! The server in a process of its own, which runs this program again.

use std::error::Error;
use std::fs::read_to_string;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, stdin};
use tokio::net::TcpSocket;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::sleep;
use tower_chat_rooms::{ChatRooms, Heartbeat, History, Limits, Presence, RateLimits, Recovery};

use crate::Options;

/// The unit of times in `/proc/PID/stat` on all common systems.
const TICK: Duration = Duration::from_millis(10);

/// A server that uses no CPU time for this long is idle.
const QUIET: Duration = Duration::from_millis(500);

/// Connections that wait to be accepted. With the usual 128, many would have to try again after a second.
const BACKLOG: u32 = 4096;

type Failure = Box<dyn Error + Send + Sync>;

/// A server process. It ends when this is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    process: Child,
    _input: ChildStdin,
}

impl Server {
    pub(crate) async fn start(options: &Options) -> Result<Server, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--serve").args(["--workers", &options.workers.to_string()]);
        if options.auto_presence {
            command.arg("--auto-presence");
        }
        command.args(["--resume-window", &humantime::format_duration(options.resume_window).to_string()]);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let input = process.stdin.take().ok_or("no standard input")?;
        let mut output = BufReader::new(process.stdout.take().ok_or("no standard output")?);
        let mut address = String::new();
        output.read_line(&mut address).await?;
        Ok(Server { address: address.trim().parse()?, process, _input: input })
    }

    /// The CPU time that it has used so far.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        let id = self.process.id().ok_or("the server has ended")?;
        ticks(&read_to_string(format!("/proc/{id}/stat"))?).ok_or_else(|| "no CPU time in /proc".into())
    }

    /// Waits until it is idle. Returns the CPU time that it has used so far.
    pub(crate) async fn idle(&self) -> Result<Duration, Failure> {
        loop {
            let before = self.cpu()?;
            sleep(QUIET).await;
            let now = self.cpu()?;
            if now <= before + TICK {
                return Ok(now);
            }
        }
    }
}

/// User and system time in the text of `/proc/PID/stat`.
fn ticks(stat: &str) -> Option<Duration> {
    // Before these fields comes the process name, which is in brackets and may contain anything.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let mut next = || fields.next()?.parse::<u32>().ok();
    Some(TICK * (next()? + next()?))
}

/// Runs the server until standard input ends. Writes its address to standard output.
pub(crate) async fn serve(options: &Options) -> io::Result<()> {
    let limits = Limits::default()
        .max_connections(usize::MAX)
        .max_pending(usize::MAX)
        .max_rooms(usize::MAX)
        .max_room_members(usize::MAX);
    let rates = RateLimits::default()
        .max_connects_per_minute_per_ip(u32::MAX)
        .max_enters_per_minute_per_ip(u32::MAX)
        .max_new_rooms_per_minute_per_ip(u32::MAX);
    let recovery = Recovery::default().resume_window(options.resume_window).history(History::last(100));
    let presence = if options.auto_presence { Presence::auto(1000, 500) } else { Ok(Presence::Full) };
    let rooms = ChatRooms::builder()
        .limits(limits)
        .rate_limits(rates)
        .recovery(recovery)
        .presence(presence.map_err(io::Error::other)?)
        // Heartbeats would be measured as well.
        .v1_heartbeat(Heartbeat::every(Duration::from_secs(3600)))
        .build()
        .map_err(io::Error::other)?;
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let listener = socket.listen(BACKLOG)?;
    println!("{}", listener.local_addr()?);
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let app = Router::new().route_service("/", rooms.service());
    let (mut input, mut end) = (stdin(), Vec::new());
    tokio::select! {
        served = axum::serve(listener, app).into_future() => served,
        _ = input.read_to_end(&mut end) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_ticks_after_a_name_with_brackets() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194304 100 0 0 0 31 11 0 0 20 0 2 0 100";
        assert_eq!(ticks(stat), Some(Duration::from_millis(420)));
        assert_eq!(ticks("7 (a) S 1"), None);
    }
}
