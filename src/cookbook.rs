//! Recipes for common tasks.
//!
//! Each page shows the shortest complete code for its task, with a test that shows what it does, and explains what you
//! need to know about it. The tests are written with [`testing`](crate::testing). The same pages are in the repository
//! in `docs/cookbook`.
//!
//! This module exists only in the documentation.

#[doc = include_str!("../docs/cookbook/direct-messages.md")]
///
/// See also: [`RoomPolicy::may_send_direct`](crate::RoomPolicy::may_send_direct),
/// [`RoomEvents::direct`](crate::RoomEvents::direct).
pub mod direct_messages {}

#[doc = include_str!("../docs/cookbook/moderation.md")]
///
/// See also: [`RoomPolicy::may_send`](crate::RoomPolicy::may_send), [`Verdict`](crate::Verdict).
pub mod moderation {}

#[doc = include_str!("../docs/cookbook/presence.md")]
///
/// See also: [`Presence`](crate::Presence), [`User::with_info`](crate::User::with_info).
pub mod presence {}

#[doc = include_str!("../docs/cookbook/typing.md")]
///
/// See also: [`ChatRoomsBuilder::transient_events`](crate::ChatRoomsBuilder::transient_events).
pub mod typing {}

#[doc = include_str!("../docs/cookbook/sessions.md")]
///
/// See also: [`Authenticate`](crate::Authenticate), [`Admission`](crate::Admission),
/// [`ChatRooms::kick_user`](crate::ChatRooms::kick_user).
pub mod sessions {}

#[cfg(feature = "jwt")]
#[doc = include_str!("../docs/cookbook/jwt.md")]
///
/// See also: [`JwtAuth`](crate::JwtAuth), [`JwtKeys`](crate::JwtKeys), [`OnExpiry`](crate::OnExpiry).
pub mod jwt {}

// The doc tests of tower-chat-rooms-store run it.
#[cfg(not(doctest))]
#[doc = include_str!("../docs/cookbook/message-store.md")]
///
/// See also: [`MessageStore`](crate::store::MessageStore), [`Keep`](crate::Keep).
pub mod message_store {}

#[cfg(feature = "redis")]
#[doc = include_str!("../docs/cookbook/nodes.md")]
///
/// See also: [`ChatRoomsBuilder::broker`](crate::ChatRoomsBuilder::broker), [`RedisSettings`](crate::RedisSettings),
/// [`AllNodes`](crate::AllNodes).
pub mod nodes {}

#[doc = include_str!("../docs/cookbook/rolling-deploy.md")]
///
/// See also: [`ChatRooms::drain`](crate::ChatRooms::drain), [`Drain`](crate::Drain), [`Health`](crate::Health).
pub mod rolling_deploy {}

#[doc = include_str!("../docs/cookbook/proxies.md")]
///
/// See also: [`TrustedProxies`](crate::TrustedProxies), [`PeerAddr`](crate::PeerAddr).
pub mod proxies {}

#[doc = include_str!("../docs/cookbook/react.md")]
pub mod react {}

#[doc = include_str!("../docs/cookbook/load-testing.md")]
///
/// See also: [`Limits`](crate::Limits), [`RateLimits`](crate::RateLimits).
pub mod load_testing {}
