//! Live chat rooms over WebSocket, as a tower layer or service for hyper and axum.
//!
//! Clients connect to [`ChatRooms`] and enter a room under a name. Every member receives every message of its room and
//! knows how many members are online. A client that is gone is removed within two heartbeats. You decide who may
//! connect ([`Authenticate`]) and who may enter and send ([`RoomPolicy`]), and your callbacks are called on every enter
//! and leave ([`RoomEvents`]). With the handle you send messages, list members, remove members and shut down.
//!
//! # Getting started
//!
//! With axum, mount the service at a route:
//!
//! ```no_run
//! use axum::Router;
//! use tower_chat_rooms::ChatRooms;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let rooms = ChatRooms::builder().build()?;
//!     let app = Router::new()
//!         .route_service("/chat", rooms.service())
//!         .route_service("/chat-rooms.js", rooms.client_script());
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//!     axum::serve(listener, app).await?;
//!     Ok(())
//! }
//! ```
//!
//! In any other tower stack, put the layer around your service:
//!
//! ```
//! # use std::convert::Infallible;
//! use tower::ServiceBuilder;
//! use tower_chat_rooms::ChatRooms;
//!
//! # fn main() -> Result<(), tower_chat_rooms::BuildError> {
//! # let site = tower::service_fn(|_: http::Request<hyper::body::Incoming>| async {
//! #     Ok::<_, Infallible>(http::Response::new(http_body_util::Empty::<bytes::Bytes>::new()))
//! # });
//! let rooms = ChatRooms::builder().build()?;
//! let service = ServiceBuilder::new().layer(rooms.layer("/chat")).service(site);
//! # drop(service);
//! # Ok(())
//! # }
//! ```
//!
//! With hyper, serve connections `with_upgrades`. With axum, prefer `route_service`: `Router::layer` does not apply to
//! routers that are merged later, and a nested router sees only the rest of the path.
//!
//! The [`cookbook`] has recipes for common tasks.
//!
//! # Clients
//!
//! [`ChatRooms::page`] serves a complete chat page. For pages of your own, [`ChatRooms::client_script`] serves a client
//! for browsers, and the crate `tower-chat-rooms-client` is one for Rust. Both speak the subprotocol `chat-rooms.v1`
//! and reconnect by themselves. Any other WebSocket client can speak the plain protocol.
//!
//! # The plain protocol
//!
//! Frames are JSON objects in text frames. They come from a tutorial on heartbeats and reconnection for the `ws`
//! package for Node.js, whose browser page works unchanged:
//!
//! | direction | frame |
//! |---|---|
//! | client → | `{"event":"enter","message":NAME,"roomId":ROOM}`: enters a room and leaves the previous one |
//! | client → | `{"event":"message","message":ANY,...}`: sends a message; any other event is relayed in the same way |
//! | client → | `{"event":"heartbeat","message":"pong"}`: answers a heartbeat |
//! | client → | `{"event":"auth","message":TOKEN}`: authenticates; never relayed |
//! | → room | what a member has sent, unchanged, with `"name"` and `"num"` (members online) added |
//! | → room | `{"event":"out","name":NAME,"num":N}`: a member has left |
//! | → each client | `{"event":"heartbeat","message":"ping","num":N}` |
//! | → sender | `{"event":"noAuth","message":REASON}`, `{"event":"error","code":CODE,"message":TEXT}` ([`ErrorCode`]) |
//!
//! ROOM is a string or a number; if it is missing, the client enters the room with the empty id. A client leaves by
//! closing its connection. [`LeaveReason`] lists the close codes.
//!
//! # Recovery
//!
//! A client that speaks `chat-rooms.v1` resumes its session after a lost connection, within
//! [`Recovery::resume_window`], and receives the frames that it has missed from the [`History`]. Other members do not
//! notice, and [`RoomEvents`] see one enter and one leave, no matter how often the connection breaks in between. Both
//! are off by default. `docs/protocol.md` in the repository describes the frames.
//!
//! # Presence
//!
//! By default, members learn who enters and leaves their room. Clients that speak `chat-rooms.v1` also know each
//! member's user, its info ([`Access::info`], [`User::with_info`]) and the state that it has set. In a large room, let
//! members learn only how many there are ([`Presence`]).
//!
//! # Events of your own
//!
//! Members may send any event. With [`host_events`](ChatRoomsBuilder::host_events), you reserve events for your
//! application. With [`transient_events`](ChatRoomsBuilder::transient_events), you declare events that matter only at
//! the moment, such as typing indicators. They are not in the history, and are dropped first.
//!
//! # Hooks
//!
//! - [`Authenticate`] checks upgrade requests and tokens. `JwtAuth` (feature `jwt`) is an implementation. A [`User`]
//!   can expire, unless the client sends a new token ([`OnExpiry`]).
//! - [`RoomPolicy`] decides whether a user may enter a room and what happens to each message, including direct messages
//!   between users.
//! - [`RoomEvents`] is called when members enter and leave, for messages, and when users come online and go offline.
//!   [`event_channel`] delivers the same events over a channel.
//!
//! No hook is called under a lock. A hook that takes too long is cancelled. A panic ends at most its own connection.
//!
//! # Heartbeats
//!
//! The server pings each client and removes it if nothing comes back. Plain clients are pinged every second, which the
//! tutorial's page needs ([`heartbeat`](ChatRoomsBuilder::heartbeat)). Clients that speak `chat-rooms.v1` are pinged
//! every 25 s ([`v1_heartbeat`](ChatRoomsBuilder::v1_heartbeat)), which suits phones and the wide internet. Use
//! [`Heartbeat::wide_internet`] for plain clients of your own as well.
//!
//! # Limits
//!
//! Every resource that a client can use has a limit with a safe default: see [`Limits`], [`RateLimits`] and
//! [`Timeouts`]. A client that sends too much gets `rate_limited` errors, and is disconnected if it continues. A client
//! that reads too slowly delays nobody else for long: its send queue is limited, and when it is full, the client is
//! disconnected or misses frames, as you choose ([`SlowConsumer`]).
//!
//! By default, browsers may connect only from pages of the same host ([`Origins`]). Limits per address apply **only if
//! you supply the address**, as a [`PeerAddr`] in each request's extensions. Behind a proxy, also set
//! [`TrustedProxies`].
//!
//! # Logs
//!
//! The crate logs with `tracing`: the start and the end at the level `info`, the reason of each close at `debug`, and
//! mistakes in the configuration at `warn` or `error`. What any client can cause is logged at most once per kind and
//! minute, with the number of lines that were `suppressed`.
//!
//! Neither its logs nor the `Debug` output of its types contain tokens, secrets or messages. tungstenite, which parses
//! frames, logs them at the level `trace`: keep it at `debug`, for example with the filter `trace,tungstenite=debug`.
//!
//! # Admin view
//!
//! [`ChatRooms::admin`] is a page, and JSON for programs, that shows nodes, rooms, connections and users to those who
//! operate the chat. You have to guard it: see [`Admin`].
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `http2` | WebSocket over HTTP/2 (RFC 8441). With hyper, enable it with `enable_connect_protocol`; with axum, enable axum's feature `http2` |
//! | `jwt` | `JwtAuth` and `JwtKeys`. Add `jsonwebtoken` with the crypto backend of your choice |
//! | `metrics` | `MetricsReporter`: reports metrics to the recorder of the crate `metrics` that you have installed |
//! | `redis` | `BrokerNode::redis`: several processes share rooms through Redis or Valkey. `RedisPublisher`: programs without clients send to rooms |
//! | `redis-tls` | TLS to Redis: `rediss` URLs. ring becomes the process's crypto provider for rustls, unless you have installed another one |
//! | `test-util` | For tests: clients of your application (`testing`), `ChatRooms::check_consistency`, `SharedBroker`, `store::MemoryStore` and `store::conformance` |
#![cfg_attr(docsrs, feature(doc_cfg))]

/// Compiles and runs the examples in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

mod admin;
mod admission;
/// What `benches/` measures: code that needs the crate's private types. Not public API.
///
/// Each case prepares what it needs, and returns a closure that does the work once.
#[cfg(feature = "__bench")]
#[doc(hidden)]
pub mod bench_cases {
    pub use crate::delivery::bench_cases::{
        change_state, join_leave, join_leave_while_delivering, message, open_and_leave,
    };
    pub use crate::protocol::bench_cases::{
        ENTER, FORGED, MESSAGE, PONG, boundary, encode, long_message, parse, pong,
    };
    pub use crate::session::bench_cases::{deliver, read, resume};
    pub use crate::socket::bench_cases::{leftover, leftover_in_parts};
}
mod broker;
mod browser;
mod builder;
mod chat_rooms;
mod clock;
mod config;
mod connection;
mod context;
#[cfg(doc)]
pub mod cookbook;
mod delivery;
mod engine;
mod error;
mod health;
mod hooks;
mod http;
mod ids;
mod log_limit;
mod metrics;
#[cfg(all(test, shuttle))]
mod models;
#[cfg_attr(
    not(any(feature = "redis", feature = "test-util")),
    allow(dead_code, reason = "no broker that several nodes share is compiled")
)]
mod progress;
mod protocol;
#[cfg(feature = "redis")]
mod redis;
mod room;
mod session;
mod socket;
mod stats;
pub mod store;
mod sync;
mod tasks;
#[cfg(feature = "test-util")]
#[cfg_attr(docsrs, doc(cfg(feature = "test-util")))]
pub mod testing;

pub use crate::admin::{Admin, AdminFuture, AdminService};
pub use crate::broker::BrokerNode;
#[cfg(feature = "test-util")]
pub use crate::broker::SharedBroker;
pub use crate::browser::asset::AssetBody;
pub use crate::browser::page::ChatPage;
pub use crate::browser::script::ClientScript;
pub use crate::builder::{ChatRoomsBuilder, WeakChatRooms};
pub use crate::chat_rooms::{
    AllNodes, ChatRooms, MemberInfo, RoomCount, RoomInfo, RoomMember, Sending, Sent,
};
#[doc(hidden)]
pub use crate::config::OptionInfo;
pub use crate::config::{
    AutoPresence, Drain, Heartbeat, History, Keep, Limits, OnExpiry, Presence, RateLimits, Recovery,
    SlowConsumer, Timeouts, UniqueNames,
};
#[cfg(feature = "test-util")]
pub use crate::engine::consistency::{ConsistencyReport, Inconsistency};
pub use crate::engine::{DrainProgress, Drained, Draining};
pub use crate::error::{BuildError, SendError, Unavailable};
pub use crate::health::Health;
pub use crate::hooks::auth::{Admission, AuthRefusal, Authenticate};
pub use crate::hooks::channel::{ChannelEvent, EventReceiver, EventSender, event_channel};
pub use crate::hooks::events::{
    DirectMessage, Entered, Left, RoomEvent, RoomEvents, UserOffline, UserOnline,
};
#[cfg(feature = "jwt")]
pub use crate::hooks::jwt::{Claims, JwtAlgorithm, JwtAuth, JwtConfigError, JwtKeys};
pub use crate::hooks::message::{Message, Sender};
pub use crate::hooks::policy::{
    Access, DirectRequest, EnterRequest, MessageRequest, ReadRequest, RoomPolicy, Verdict,
};
pub use crate::hooks::user::{Denied, PeerAddr, User};
pub use crate::http::body::{NoBody, ResponseBody};
pub use crate::http::layer::ChatRoomsLayer;
pub use crate::http::origin::Origins;
pub use crate::http::proxies::TrustedProxies;
pub use crate::http::refusal::{Refusal, RefusalKind};
pub use crate::http::response_future::ResponseFuture;
pub use crate::http::service::{ChatRoomsService, NoService};
pub use crate::ids::{ConnectionId, MessageId, Name, ParseConnectionIdError, ParseMessageIdError, RoomId};
#[cfg(feature = "metrics")]
pub use crate::metrics::MetricsReporter;
pub use crate::protocol::close::{LeaveReason, may_reconnect};
pub use crate::protocol::error_code::ErrorCode;
pub use crate::protocol::position::{Epoch, Position};
#[cfg(feature = "redis")]
pub use crate::redis::{RedisConnectError, RedisPublisher, RedisSent, RedisSettings};
pub use crate::stats::{BrokerStats, Histogram, ReasonCounts, Stats};
