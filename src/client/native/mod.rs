//! The client in Rust (feature `client`): a pure state machine, and the task that moves its bytes.

pub(crate) mod builder;
mod dial;
mod driver;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod handle;
mod incoming;
mod machine;
mod outgoing;
mod queue;
#[cfg(feature = "client-rustls")]
mod tls;
mod wire;
