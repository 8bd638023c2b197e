//! What several tools need that break connections: networks, random numbers, and the direct messages of a client.

mod inbox;
mod network;
mod random;

pub use inbox::{Directs, Inbox};
pub use network::{Condition, Network};
pub use random::Random;
