//! Clients for the tests of your application, in memory and in paused time.
//!
//! A [`TestServer`] serves your chat rooms, or your whole application with them, without a network. Its clients do the
//! real handshake and speak the real protocol, so your auth hook, your policy and your callbacks are called as in
//! production. The clients answer heartbeats by themselves. They lose their connections when you call
//! [`TestClient::cut`] or [`TestClient::stall`], and resume their sessions when you call [`TestClient::restore`].
//!
//! Start the runtime with its time paused, as below. The clock then jumps to the next timer whenever all tasks wait. A
//! test in which an hour passes takes milliseconds, and a busy machine cannot make it fail. This needs tokio's feature
//! `test-util`.
//!
//! ```
//! use std::time::Duration;
//!
//! use serde_json::json;
//! use tower_chat_rooms::testing::TestServer;
//! use tower_chat_rooms::{ChatRooms, History, Recovery};
//!
//! # // In a test: #[tokio::test(start_paused = true)]
//! #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() { a_lost_connection_costs_no_message().await }
//! # async fn
//! a_lost_connection_costs_no_message() {
//!     let recovery = Recovery::default().resume_window(Duration::from_secs(60)).history(History::last(100));
//!     let server = TestServer::new(ChatRooms::builder().recovery(recovery).build().unwrap());
//!     let mut ann = server.connect().await;
//!     let mut bob = server.connect().await;
//!     ann.enter("ann", "lobby").await;
//!     bob.enter("bob", "lobby").await;
//!     ann.expect(json!({"event": "enter", "name": "bob", "num": 2})).await;
//!
//!     bob.cut();
//!     ann.say("Are you there?").await;
//!     ann.expect(json!({"event": "message", "name": "ann"})).await;
//!     // Nobody is told that bob is away.
//!     ann.expect_silence(Duration::from_secs(30)).await;
//!
//!     assert!(bob.restore().await, "the session was resumed");
//!     bob.expect(json!({"message": "Are you there?"})).await;
//!     bob.close().await;
//!     ann.expect(json!({"event": "out", "name": "bob", "num": 1})).await;
//! }
//! ```
//!
//! When the server is dropped, it checks that members, counts, sessions and users are consistent.

mod caller;
mod client;
mod connection;
mod options;
mod server;
mod session;

pub use self::client::TestClient;
pub use self::options::{ConnectError, ConnectOptions};
pub use self::server::TestServer;
