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
mod incoming;
mod join;
mod machine;
mod outgoing;
mod retry_hint;
mod socket;
mod target;
#[cfg(feature = "rustls")]
mod tls;
mod token_bucket;

pub use crate::builder::{ClientBuilder, ManyRooms, OneRoom};
pub use crate::chat::{Chat, ChatHandle};
pub use crate::client::{Client, ClientSender, Sending};
pub use crate::error::ClientError;
pub use crate::event::{ChatEvent, ChatState, ClientEvent, ClientState, Position, RoomFrame};
pub use crate::join::JoinBuilder;
