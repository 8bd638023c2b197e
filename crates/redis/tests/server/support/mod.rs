//! Servers and nodes.

mod node;
mod server;

pub(crate) use node::{TestNode, member};
pub(crate) use server::{Data, Server, send_signal};
