//! The wire: what clients send, what they are sent, and with which codes a connection ends.

#[cfg(feature = "__bench")]
pub(crate) mod bench_cases;
pub(crate) mod close;
pub(crate) mod direct;
pub(crate) mod error_code;
pub(crate) mod frame;
pub(crate) mod history;
pub(crate) mod host_frame;
pub(crate) mod inbound;
pub(crate) mod json;
pub(crate) mod outbound;
pub(crate) mod position;
pub(crate) mod presence;
pub(crate) mod receipt;
pub(crate) mod resume;
pub(crate) mod splitter;
pub(crate) mod subprotocol;
