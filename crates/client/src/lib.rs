#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod body;
mod builder;
mod chat;
mod client;
mod commands;
mod dial;
mod driver;
mod error;
mod event;
mod events;
mod history;
mod incoming;
mod join;
mod machine;
mod outgoing;
mod presence;
mod retry_hint;
mod sending;
mod socket;
mod target;
#[cfg(feature = "rustls")]
mod tls;
mod token_bucket;

pub use crate::builder::{ClientBuilder, ManyRooms, OneRoom};
pub use crate::chat::{Chat, ChatHandle};
pub use crate::client::{Client, ClientSender};
pub use crate::error::ClientError;
pub use crate::event::{ChatEvent, ChatState, ClientEvent, ClientState, Position, RoomFrame};
pub use crate::history::{HistoryPage, HistoryRequest};
pub use crate::join::JoinBuilder;
pub use crate::presence::{Member, Presence, PresenceMode};
pub use crate::sending::Sending;
