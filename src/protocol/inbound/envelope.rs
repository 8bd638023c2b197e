//! The keys that the server reads in a client's frame.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The keys that the server reads, their values still unparsed.
#[derive(Default)]
pub(super) struct Envelope<'a> {
    pub(super) event: Option<&'a RawValue>,
    pub(super) message: Option<&'a RawValue>,
    pub(super) room_id: Option<&'a RawValue>,
    pub(super) since: Option<&'a RawValue>,
    pub(super) last: Option<&'a RawValue>,
    pub(super) cid: Option<&'a RawValue>,
    /// There is a key that was probably meant to be `roomId`.
    pub(super) has_room: bool,
    /// The client set a key that only the server may set, perhaps only in v1.
    pub(super) forged: bool,
    /// The frame has a key that [`ProfileKeys`](crate::protocol::presence::ProfileKeys) reads.
    pub(super) has_profile_keys: bool,
    /// A key that occurs twice. Such frames are refused, because parsers disagree on which value counts.
    pub(super) twice: Option<&'static str>,
}

impl<'de> Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Envelope<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut found = Envelope::default();
                while let Some(key) = map.next_key()? {
                    let value = map.next_value::<&'de RawValue>()?;
                    let (slot, key) = match key {
                        Key::Event => (&mut found.event, "event"),
                        Key::Message => (&mut found.message, "message"),
                        Key::RoomId => (&mut found.room_id, "roomId"),
                        Key::Since => (&mut found.since, "since"),
                        Key::Last => (&mut found.last, "last"),
                        Key::Cid => (&mut found.cid, "cid"),
                        Key::Room => {
                            found.has_room = true;
                            continue;
                        }
                        Key::OfServer => {
                            found.forged = true;
                            continue;
                        }
                        Key::OfProfile => {
                            found.has_profile_keys = true;
                            continue;
                        }
                        Key::Other => continue,
                    };
                    if slot.replace(value).is_some() {
                        found.twice = Some(key);
                    }
                }
                Ok(found)
            }
        }
        d.deserialize_map(V)
    }
}

/// The key of a member.
enum Key {
    Event,
    Message,
    RoomId,
    Since,
    Last,
    Cid,
    /// Probably meant to be `roomId`.
    Room,
    /// Only the server may set it, perhaps only in v1.
    OfServer,
    /// Part of a member's profile, or the place in a roster.
    OfProfile,
    Other,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Key, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E>(self, key: &str) -> Result<Key, E> {
                Ok(match key {
                    "event" => Key::Event,
                    "message" => Key::Message,
                    "roomId" => Key::RoomId,
                    "since" => Key::Since,
                    "last" => Key::Last,
                    "cid" => Key::Cid,
                    "room" | "room_id" => Key::Room,
                    "name" | "num" | "seq" | "member" | "id" | "direct" => Key::OfServer,
                    "user" | "info" | "state" | "after" => Key::OfProfile,
                    _ => Key::Other,
                })
            }
        }
        d.deserialize_identifier(V)
    }
}
