//! The standalone's chat page and the browser client in Chromium:
//! `cargo test -p browser-tests --test browser`.
//!
//! Chromium must be installed; `CHROMIUM` names another binary than the first of the usual names
//! in `PATH`. With `CHAT_SCREENSHOT=FILE` a picture of the chat is written there.

mod bidi;
mod chat;
mod chromium;
mod devtools;
mod faults;
mod firefox;
mod host;
mod hostile;
mod http2;
mod keyboard;
mod languages;
mod legacy;
mod link;
mod module;
mod mount;
mod network;
mod origins;
mod page;
mod phone;
mod process;
mod proxy;
mod restart;
mod screenshot;
mod server;
mod tab;
mod tokens;

use std::time::Duration;

/// For whatever takes a moment, on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(30);
