//! The SQLite store with a database in a temporary directory.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod sqlite;
