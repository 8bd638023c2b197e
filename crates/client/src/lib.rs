#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod client;
mod dial;
mod driver;
mod error;
mod event;
mod events;
mod incoming;
mod machine;
mod outgoing;
mod socket;
mod target;
#[cfg(feature = "rustls")]
mod tls;
mod token_bucket;

pub use crate::builder::ClientBuilder;
pub use crate::client::{Client, ClientSender, Sending};
pub use crate::error::ClientError;
pub use crate::event::{ClientEvent, ClientState, RoomFrame};
