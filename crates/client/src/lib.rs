//! A client of the chat rooms that `tower-chat-rooms` serves: a pure state machine, and the task that
//! moves its bytes.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod dial;
mod driver;
mod error;
mod event;
mod handle;
mod incoming;
mod machine;
mod outgoing;
mod queue;
#[cfg(feature = "rustls")]
mod tls;
mod wire;

pub use crate::builder::ClientBuilder;
pub use crate::error::ClientError;
pub use crate::event::{ClientEvent, ClientState, RoomFrame};
pub use crate::handle::{Client, ClientSender, Sending};
