//! Live chat rooms over WebSocket for tower: one layer, mounted in a hyper or axum service.
//!
//! [`ChatRooms`] takes WebSocket upgrade requests out of an application's traffic and runs rooms
//! on them: clients enter a room under a name, everyone in it hears everything said there and
//! knows how many are online, and whoever is gone is out within two heartbeats. The host decides
//! who may connect ([`Authenticate`]), who may enter and speak where ([`RoomPolicy`]), and is
//! called back on every enter and leave ([`RoomEvents`]). It can speak, look, kick and shut down
//! through the same handle.
//!
//! # First use
//!
//! In axum, as a route's service:
//!
//! ```no_run
//! use axum::Router;
//! use tower_chat_rooms::ChatRooms;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let rooms = ChatRooms::builder().build()?;
//!     let app = Router::new().route_service("/chat", rooms.service());
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//!     axum::serve(listener, app).await?;
//!     Ok(())
//! }
//! ```
//!
//! In any tower stack, in front of what is there already:
//!
//! ```
//! # use std::convert::Infallible;
//! use tower::ServiceBuilder;
//! use tower_chat_rooms::ChatRooms;
//!
//! # fn main() -> Result<(), tower_chat_rooms::BuildError> {
//! let rooms = ChatRooms::builder().build()?;
//! let service = ServiceBuilder::new().layer(rooms.layer("/chat")).service(
//!     tower::service_fn(|_: http::Request<hyper::body::Incoming>| async {
//!         Ok::<_, Infallible>(http::Response::new(http_body_util::Empty::<bytes::Bytes>::new()))
//!     }),
//! );
//! # drop(service);
//! # Ok(())
//! # }
//! ```
//!
//! Under plain hyper the connection must be served `with_upgrades`. In axum prefer
//! `route_service`: `Router::layer` does not reach routers that are merged into it later, nor
//! does it see the whole path when it is nested.
//!
//! # The wire
//!
//! JSON objects in text frames:
//!
//! | from | frame |
//! |---|---|
//! | client | `{"event":"enter","message":NAME,"roomId":ROOM}`: go into a room (out of any other) |
//! | client | `{"event":"message","message":ANY,...}`: say something; any other event goes the same way |
//! | client | `{"event":"heartbeat","message":"pong"}`: I am alive |
//! | client | `{"event":"auth","message":TOKEN}`: who I am; never relayed |
//! | to the room | what came in, byte by byte, with `"name"` and `"num"` (members online) added |
//! | to the room | `{"event":"out","name":NAME,"num":N}` |
//! | to each | `{"event":"heartbeat","message":"ping","num":N}` |
//! | to an offender | `{"event":"noAuth","message":REASON}`, `{"event":"error","code":CODE,"message":TEXT}` ([`ErrorCode`]) |
//!
//! ROOM is a string or a number; without one, it is the room of the empty name. A client leaves
//! by closing its connection. Why the server closes one is in the table of [`LeaveReason`].
//!
//! # Coming back
//!
//! Clients that offer the subprotocol `chat-rooms.v1` can come back after their connection was
//! lost, to the seat that [`Recovery::resume_window`] keeps for them, and get the frames that they
//! have missed from the [`History`]. Nobody else notices, and [`RoomEvents`] hear
//! of one enter and one leave, however often a connection breaks in between. The frames are
//! described in `docs/protocol.md`.
//!
//! # Clients
//!
//! [`ChatRooms::client_script`] serves one for browsers, and the crate
//! `tower-chat-rooms-client` is one for Rust. Both speak the subprotocol `chat-rooms.v1`, come back by themselves, and miss nothing where
//! the host keeps what was said ([`Recovery::history`]) and the seats of those who are lost
//! ([`Recovery::resume_window`]).
//!
//! # The hooks
//!
//! - [`Authenticate`]: cookies, headers and the rest of the upgrade request, and tokens that
//!   clients send in band. `JwtAuth` (feature `jwt`) is one that is ready to use. A [`User`] may
//!   have an end, when a newer token is due ([`OnExpiry`]).
//! - [`RoomPolicy`]: may this user enter this room, and stay when he has authenticated anew; may
//!   this message go out.
//! - [`RoomEvents`]: `entered`, `left` with its reason, and `message`. [`event_channel`] turns
//!   it into a stream.
//!
//! No hook is called under a lock, a hook that hangs is given up after a time, and one that
//! panics ends at most its own connection.
//!
//! # Limits
//!
//! Everything that a peer may cost has a limit with a safe default: [`Limits`], [`RateLimits`],
//! [`Timeouts`]. A client that sends too much gets errors `rate_limited`, and is closed if it goes on. One
//! that reads too slowly delays nobody: its queue is bounded, and when that is full it is closed
//! with a code that tells it to come back, or misses something, as the host has chosen
//! ([`SlowConsumer`]).
//!
//! Browsers connect from pages of the same host alone ([`Origins`]). How many connections an address
//! may have is limited **only where the host tells the address**, by a [`PeerAddr`] in each request's
//! extensions; behind a proxy it has to be named ([`TrustedProxies`]).
//!
//! # Logs
//!
//! This crate logs by `tracing`, and never a token, a secret or what is said; nor does the `Debug`
//! of its types show them. tungstenite, which reads the frames, logs them at the level `trace`:
//! keep it at `debug`, as by the filter `trace,tungstenite=debug`.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `http2` | WebSocket over HTTP/2 (RFC 8441), too; the host enables it by `enable_connect_protocol`, axum does by itself |
//! | `jwt` | `JwtAuth`, `JwtKeys`; the host adds `jsonwebtoken` with the crypto of its choice |
#![cfg_attr(docsrs, feature(doc_cfg))]

mod admission;
mod broker;
mod browser;
mod builder;
mod chat_rooms;
mod clock;
mod config;
mod connection;
mod context;
mod delivery;
mod engine;
mod error;
mod hooks;
mod http;
mod ids;
mod protocol;
mod room;
mod session;
mod socket;
mod stats;
mod sync;
mod tasks;

pub use crate::browser::script::{ClientScript, ScriptBody};
pub use crate::builder::ChatRoomsBuilder;
pub use crate::chat_rooms::{ChatRooms, MemberInfo, RoomInfo};
#[doc(hidden)]
pub use crate::config::OptionInfo;
pub use crate::config::{
    Heartbeat, History, Limits, OnExpiry, RateLimits, Recovery, SlowConsumer, Timeouts, UniqueNames,
};
#[cfg(feature = "test-util")]
pub use crate::engine::consistency::{ConsistencyReport, Inconsistency};
pub use crate::error::{BuildError, SendError};
pub use crate::hooks::auth::{Admission, AuthRefusal, Authenticate};
pub use crate::hooks::channel::{ChannelEvent, EventReceiver, EventSender, event_channel};
pub use crate::hooks::events::{Entered, Left, Message, RoomEvent, RoomEvents};
#[cfg(feature = "jwt")]
pub use crate::hooks::jwt::{Claims, JwtAlgorithm, JwtAuth, JwtConfigError, JwtKeys};
pub use crate::hooks::policy::{EnterRequest, MessageRequest, RoomPolicy, Verdict};
pub use crate::hooks::user::{Denied, PeerAddr, User};
pub use crate::http::body::{NoBody, ResponseBody};
pub use crate::http::layer::ChatRoomsLayer;
pub use crate::http::origin::Origins;
pub use crate::http::proxies::TrustedProxies;
pub use crate::http::refusal::{Refusal, RefusalKind};
pub use crate::http::response_future::ResponseFuture;
pub use crate::http::service::{ChatRoomsService, NoService};
pub use crate::ids::{ConnectionId, Name, RoomId};
pub use crate::protocol::close::{LeaveReason, may_reconnect};
pub use crate::protocol::error_code::ErrorCode;
pub use crate::stats::Stats;
