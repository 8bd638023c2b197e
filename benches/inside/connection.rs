//! Of the connection's floor only what is private there: the whole is measured in `tests/memory.rs`.

#[path = "../../src/connection/link.rs"]
pub(crate) mod link;
#[path = "../../src/connection/reader.rs"]
pub(crate) mod reader;
#[path = "../../src/connection/seat.rs"]
pub(crate) mod seat;
