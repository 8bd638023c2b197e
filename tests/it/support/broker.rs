//! With `CHAT_TEST_BROKER`, the tests run over nodes that share a broker: each chat rooms are the only node of a broker of
//! their own. It shows where chat rooms with a broker differ from those without one.

use std::env;

#[cfg(feature = "redis")]
use super::redis_broker::{RedisRooms, latest_number, redis_traffic, wait_for_redis};
use super::run_other_tasks;
use tower_chat_rooms::{ChatRooms, ChatRoomsBuilder, SharedBroker};

/// What orders the events of chat rooms.
pub(crate) enum TestBroker {
    /// Chat rooms have no broker.
    None,
    Shared(SharedBroker),
    #[cfg(feature = "redis")]
    Redis(RedisRooms),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    Shared,
    Redis,
}

impl Kind {
    fn from_env() -> Kind {
        match env::var("CHAT_TEST_BROKER").as_deref() {
            Ok("shared") => Kind::Shared,
            Ok("redis") if cfg!(feature = "redis") => Kind::Redis,
            Ok(other) => {
                panic!(
                    "CHAT_TEST_BROKER={other} is unknown; it may be \"shared\" or, with all features, \"redis\""
                )
            }
            Err(_) => Kind::None,
        }
    }
}

impl TestBroker {
    pub(crate) fn new() -> TestBroker {
        match Kind::from_env() {
            Kind::Shared => TestBroker::Shared(SharedBroker::new()),
            #[cfg(feature = "redis")]
            Kind::Redis => TestBroker::Redis(RedisRooms::new()),
            _ => TestBroker::None,
        }
    }

    /// Builds chat rooms that are a node of this broker, if there is to be one.
    pub(crate) fn builder(&self) -> ChatRoomsBuilder {
        let builder = ChatRooms::builder();
        match self {
            TestBroker::None => builder,
            TestBroker::Shared(broker) => builder.broker(broker.node()),
            #[cfg(feature = "redis")]
            TestBroker::Redis(rooms) => builder.broker(rooms.node()),
        }
    }
}

/// Whether chat rooms have a broker that several nodes could share.
pub(crate) fn has_shared_broker() -> bool {
    Kind::from_env() != Kind::None
}

/// Whether this broker is Redis.
pub(crate) fn has_redis() -> bool {
    Kind::from_env() == Kind::Redis
}

/// Builds chat rooms, for tests that hold with a shared broker, too.
pub(crate) fn builder() -> ChatRoomsBuilder {
    TestBroker::new().builder()
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

/// Ends the test if the broker is Redis. The reason says why the test cannot hold then.
macro_rules! skip_with_redis {
    ($reason:literal) => {
        if $crate::support::has_redis() {
            eprintln!("skipped with Redis: {}", $reason);
            return;
        }
    };
}
pub(crate) use skip_with_redis;

/// The id of a connection to the chat rooms that were built last, counted from 0. That of a node begins with the node's
/// number.
pub(crate) fn nth_id(n: u64) -> String {
    let node = match Kind::from_env() {
        Kind::None => 0,
        Kind::Shared => 1,
        #[cfg(feature = "redis")]
        Kind::Redis => latest_number(),
        #[cfg(not(feature = "redis"))]
        Kind::Redis => 0,
    };
    (u64::from(node) << 32 | n).to_string()
}

/// Lets the events arrive that were published before. Without a broker they have arrived already.
pub(crate) async fn events_arrive() {
    if has_shared_broker() {
        run_other_tasks().await;
    }
}

/// Waits until the broker has nothing left to do.
pub(super) async fn wait_for_broker() {
    #[cfg(feature = "redis")]
    wait_for_redis().await;
}

/// How much the broker was told and has answered so far, in no particular unit. It does not change while nothing calls
/// the broker and the broker has nothing left to do.
pub(super) fn broker_traffic() -> u64 {
    #[cfg(feature = "redis")]
    return redis_traffic();
    #[cfg(not(feature = "redis"))]
    0
}
