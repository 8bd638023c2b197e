//! A node: the server under test, in a process of its own. It tells at `/state` what it knows, and writes its callbacks
//! to a journal, which survives when the process is killed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::routing::get;
use axum::{Json, Router};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncReadExt, stdin};
use tokio::net::TcpSocket;
use tower_chat_rooms::{
    Access, BrokerNode, ChatRooms, Denied, DirectRequest, EnterRequest, Heartbeat, History, Presence,
    Recovery, RedisSettings, RoomEvent, RoomId, RoomPolicy, User, Verdict,
};
use tracing_subscriber::EnvFilter;

use crate::check::USERS;
use crate::{COUNT_ROOM, Failure};

/// Shorter than many faults, so that sessions end during a run.
pub(crate) const RESUME_WINDOW: Duration = Duration::from_secs(8);

/// More frames than a room has in the longest fault.
const HISTORY: usize = 20_000;

#[derive(Debug, Args)]
pub(crate) struct NodeOptions {
    #[arg(long)]
    pub(crate) listen: SocketAddr,
    #[arg(long)]
    pub(crate) redis: String,
    #[arg(long)]
    pub(crate) name: String,
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(crate) lease: Duration,
    #[arg(long)]
    pub(crate) journal: PathBuf,
}

/// What a node knows.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct State {
    /// The number of members of each room in which the node has members.
    pub(crate) rooms: BTreeMap<String, usize>,
    pub(crate) sessions: usize,
    pub(crate) entered: u64,
    pub(crate) resumed: u64,
    /// What [`ChatRooms::check_consistency`] has found.
    pub(crate) faults: Vec<String>,
}

/// One of the rooms only counts.
struct Policy;

impl RoomPolicy for Policy {
    async fn may_enter(&self, request: &EnterRequest<'_>) -> Result<Access, Denied> {
        let info = json!({"as": request.name().as_str()});
        Access::member().info(&info).map_err(|error| Denied::new(error.to_string()))
    }

    fn may_send_direct(&self, _: &DirectRequest<'_>) -> Verdict {
        Verdict::allow()
    }

    fn presence(&self, room: &RoomId) -> Option<Presence> {
        (room.as_str() == COUNT_ROOM.to_string()).then_some(Presence::Count)
    }
}

/// Runs until its standard input is closed.
pub(crate) async fn run(options: NodeOptions) -> Result<(), Failure> {
    let filter = EnvFilter::new("info,tower_chat_rooms=info");
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::io::stderr).init();
    let journal = File::create(&options.journal)?;
    let settings = RedisSettings::new(&options.redis)
        .node_name(&options.name)
        .lease(options.lease)
        .log_length(HISTORY as u32);
    let history = History::last(HISTORY).max_bytes(usize::MAX).for_at_most(Duration::from_secs(300));
    let heartbeat = Heartbeat::every(Duration::from_secs(3));
    let rooms = ChatRooms::builder()
        .heartbeat(heartbeat)
        .v1_heartbeat(heartbeat)
        .recovery(Recovery::default().resume_window(RESUME_WINDOW).history(history))
        .auth(async |token: String| Ok(User::new(token)))
        .policy(Policy)
        .events(move |event: RoomEvent<'_>| {
            let line = match event {
                RoomEvent::Entered(event) => {
                    format!("+ {} {} {}", event.room, event.connection, event.name)
                }
                RoomEvent::Left(event) => format!("- {} {} {}", event.room, event.connection, event.reason),
                RoomEvent::Online(event) => format!("+ {USERS} {}", event.user.id()),
                RoomEvent::Offline(event) => format!("- {USERS} {}", event.user.id()),
                _ => return,
            };
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let line = format!("{} {line}\n", now.as_millis());
            // One call, so that a kill does not leave half a line.
            if let Err(error) = (&journal).write_all(line.as_bytes()) {
                eprintln!("the journal cannot be written: {error}");
            }
        })
        .broker(BrokerNode::redis(settings).await?)
        .build()?;

    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(options.listen)?;
    let asked = rooms.clone();
    let app = Router::new()
        .route_service("/chat", rooms.service())
        .route("/health", get(async || "ok"))
        .route("/state", get(async move || Json(State::of(&asked))));
    let stop = {
        let rooms = rooms.clone();
        async move {
            let _ = stdin().read_to_end(&mut Vec::new()).await;
            rooms.shutdown().await;
        }
    };
    axum::serve(socket.listen(1024)?, app).with_graceful_shutdown(stop).await?;
    Ok(())
}

impl State {
    fn of(rooms: &ChatRooms) -> State {
        let (stats, report) = (rooms.stats(), rooms.check_consistency());
        State {
            rooms: rooms.rooms().into_iter().map(|room| (room.id.to_string(), room.online)).collect(),
            sessions: report.sessions,
            entered: stats.entered,
            resumed: stats.resumed,
            faults: report.faults.iter().map(ToString::to_string).collect(),
        }
    }
}
