//! With `CHAT_TEST_BROKER=shared`, the tests run over nodes that share a broker: each chat rooms are the only node of a
//! broker of their own. It shows where chat rooms with a broker differ from those without one.

use std::env;

use tower_chat_rooms::{ChatRooms, ChatRoomsBuilder, SharedBroker};

use super::run_other_tasks;

/// Whether chat rooms have a broker that several nodes could share.
pub(crate) fn has_shared_broker() -> bool {
    match env::var("CHAT_TEST_BROKER") {
        Ok(broker) if broker == "shared" => true,
        Ok(other) => panic!("CHAT_TEST_BROKER={other} is unknown; it may be \"shared\""),
        Err(_) => false,
    }
}

/// Builds chat rooms, for tests that hold with a shared broker, too.
pub(crate) fn builder() -> ChatRoomsBuilder {
    builder_of_node(&SharedBroker::new())
}

/// Builds chat rooms that are a node of this broker, if there is to be one.
pub(crate) fn builder_of_node(broker: &SharedBroker) -> ChatRoomsBuilder {
    match has_shared_broker() {
        true => ChatRooms::builder().broker(broker.node()),
        false => ChatRooms::builder(),
    }
}

/// Ends the test if there is a shared broker. The reason says why the test cannot hold then.
macro_rules! skip_with_broker {
    ($reason:literal) => {
        if $crate::support::has_shared_broker() {
            eprintln!("skipped with a shared broker: {}", $reason);
            return;
        }
    };
}
pub(crate) use skip_with_broker;

/// The id of a connection to chat rooms, counted from 0. That of a node begins with the node's number, which is 1.
pub(crate) fn nth_id(n: u64) -> String {
    let node = u64::from(has_shared_broker());
    (node << 32 | n).to_string()
}

/// Lets the events arrive that were published before. Without a broker they have arrived already.
pub(crate) async fn events_arrive() {
    if has_shared_broker() {
        run_other_tasks().await;
    }
}
