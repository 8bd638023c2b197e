//! Live chat rooms (work in progress).
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod chat_rooms;
mod config;
mod connection;
mod engine;
mod error;
mod hooks;
mod ids;
mod protocol;
mod room;
mod service;

pub use crate::builder::ChatRoomsBuilder;
pub use crate::chat_rooms::{ChatRooms, MemberInfo, RoomInfo};
pub use crate::config::Heartbeat;
pub use crate::engine::stats::Stats;
pub use crate::error::{BuildError, SendError};
pub use crate::hooks::auth::{Admission, AuthRefusal, Authenticate};
pub use crate::hooks::channel::{ChannelEvent, EventReceiver, EventSender, event_channel};
pub use crate::hooks::events::{Entered, Left, Message, RoomEvent, RoomEvents};
#[cfg(feature = "jwt")]
pub use crate::hooks::jwt::{Claims, JwtAlgorithm, JwtAuth, JwtConfigError};
pub use crate::hooks::policy::{EnterRequest, MessageRequest, RoomPolicy, Verdict};
pub use crate::hooks::user::{Denied, PeerAddr, User};
pub use crate::ids::{ConnectionId, Name, RoomId};
pub use crate::protocol::close::LeaveReason;
pub use crate::protocol::error_code::ErrorCode;
pub use crate::service::body::{NoBody, ResponseBody};
pub use crate::service::future::ResponseFuture;
pub use crate::service::layer::ChatRoomsLayer;
pub use crate::service::refusal::{Refusal, RefusalKind};
pub use crate::service::service::{ChatRoomsService, NoService};
