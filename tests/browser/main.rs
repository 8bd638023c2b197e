//! The chat page and the browser client in Chromium, and the page in Firefox:
//! `cargo test -p browser-tests --test browser`.
//!
//! Both browsers must be installed; `CHROMIUM` and `FIREFOX` name other binaries than the first of the usual names in
//! `PATH`. With `CHAT_SCREENSHOTS=FOLDER`, pictures of the chat are written there.

mod admin;
mod bidi;
mod chat;
mod chromium;
mod devtools;
mod faults;
mod firefox;
mod history;
mod host;
mod hostile;
mod http2;
mod keyboard;
mod languages;
mod legacy;
mod link;
mod links;
mod module;
mod mount;
mod network;
mod origins;
mod page;
mod phone;
mod presence;
mod process;
mod proxy;
mod restart;
mod rooms;
mod screenshot;
mod server;
mod tab;
mod tokens;

use std::time::Duration;

/// For whatever takes a moment, on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(30);
