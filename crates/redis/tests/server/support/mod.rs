//! Servers and nodes.

mod leases;
mod node;
mod proxy;
mod server;

pub(crate) use node::{TestNode, member};
pub(crate) use proxy::{Proxy, Way};
pub(crate) use server::{Data, Server, free_port, send_signal};
