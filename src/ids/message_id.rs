//! Ids of messages.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tower_chat_rooms_protocol::{MESSAGE_ID_COUNTER_BITS, MESSAGE_ID_START};

/// Identifies a message of a room.
///
/// The ids of a room rise in the room's order. They are never reused while the server runs. They are not reused after a
/// restart either, unless the clock was set back in between and there is no [store](crate::ChatRoomsBuilder::store). If
/// several processes share a [broker](crate::ChatRoomsBuilder::broker), a message has the same id on all of them, and
/// the clock is the broker's clock. Messages of different rooms may have the same id.
///
/// An id contains the time of its message to the millisecond, so you can compute the ids of a time:
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tower_chat_rooms::MessageId;
///
/// let yesterday = SystemTime::now() - Duration::from_secs(24 * 60 * 60);
/// let first = MessageId::first_at(yesterday);
/// assert!(yesterday.duration_since(first.time()).unwrap() < Duration::from_millis(1));
///
/// let next = MessageId::next(Some(first), yesterday);
/// assert!(next > first);
/// assert_eq!(next.to_string().parse(), Ok(next));
/// ```
///
/// In JSON, an id is a number. It is at most [`MessageId::MAX`], so JavaScript can represent it, and it fits into a
/// signed integer of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(u64);

/// The last time that an id can begin with, in milliseconds: 49 days before the numbers end. Even if the clock is set
/// far into the future, a room still has 2^44 more ids.
const MAX_MILLIS: u64 = (1 << 41) - (1 << 32);

impl MessageId {
    /// The highest id, 2^53 - 1. Its time is in the year 2089.
    pub const MAX: MessageId = MessageId((1 << 53) - 1);

    /// No message has it.
    pub(crate) const ZERO: MessageId = MessageId(0);

    /// Returns the id with this number, or `None` if it is higher than [`MessageId::MAX`].
    pub fn from_u64(number: u64) -> Option<MessageId> {
        Some(MessageId(number)).filter(|id| *id <= MessageId::MAX)
    }

    /// Returns the id as a number.
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// Returns the lowest id that a message of this millisecond can have. A time before 2020 counts as 2020.
    pub fn first_at(time: SystemTime) -> MessageId {
        let since_start = time.duration_since(SystemTime::UNIX_EPOCH + MESSAGE_ID_START).unwrap_or_default();
        let millis = u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX).min(MAX_MILLIS);
        MessageId(millis << MESSAGE_ID_COUNTER_BITS)
    }

    /// The highest id that is lower than all ids from this millisecond on, unless the clock is set back.
    pub(crate) fn last_before(now: SystemTime) -> MessageId {
        MessageId::first_at(now).previous()
    }

    /// The highest id that is lower; 0 if there is none.
    pub(crate) fn previous(self) -> MessageId {
        MessageId(self.0.saturating_sub(1))
    }

    /// Returns the id of a new message in a room whose latest message has the id `last`. This is the first id of this
    /// millisecond or the id after `last`, whichever is higher. Ids therefore rise even if the clock is set back.
    pub fn next(last: Option<MessageId>, now: SystemTime) -> MessageId {
        // No message has the id 0, so that every message comes after it.
        let following = MessageId(last.map_or(1, |last| last.0 + 1)).min(MessageId::MAX);
        following.max(MessageId::first_at(now))
    }

    /// Returns the server's time when the message was sent, to the millisecond. The time is one millisecond too late
    /// for every 4,096 messages that the room had in one millisecond. It is also too late if the clock was set back
    /// before.
    pub fn time(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + MESSAGE_ID_START + Duration::from_millis(self.0 >> MESSAGE_ID_COUNTER_BITS)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for MessageId {
    type Err = ParseMessageIdError;

    /// Parses the output of `to_string`. Refuses any other form of the number, so that each id has only one text.
    fn from_str(text: &str) -> Result<MessageId, ParseMessageIdError> {
        let number = text.parse().map_err(|_| ParseMessageIdError(()))?;
        MessageId::from_u64(number).filter(|id| id.to_string() == text).ok_or(ParseMessageIdError(()))
    }
}

impl Serialize for MessageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for MessageId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<MessageId, D::Error> {
        let number = u64::deserialize(deserializer)?;
        MessageId::from_u64(number).ok_or_else(|| {
            de::Error::invalid_value(de::Unexpected::Unsigned(number), &"a message id below 2^53")
        })
    }
}

/// The text is not a [`MessageId`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseMessageIdError(());

impl fmt::Display for ParseMessageIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a message id: it must be a decimal number below 2^53 without sign or leading zeros")
    }
}

impl std::error::Error for ParseMessageIdError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis_since_2020: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + MESSAGE_ID_START + Duration::from_millis(millis_since_2020)
    }

    proptest! {
        #[test]
        fn ids_rise_whatever_the_clock_says(clock in prop::collection::vec(0u64..1 << 50, 1..50)) {
            let mut last = None;
            for millis in clock {
                let id = MessageId::next(last, at(millis));
                prop_assert!(Some(id) > last);
                prop_assert!(id >= MessageId::first_at(at(millis)));
                last = Some(id);
            }
        }
    }

    #[test]
    fn an_id_contains_the_time_of_its_message() {
        let now = at(123_456_789_012);
        let id = MessageId::next(None, now);
        assert_eq!(id.time(), now);
        assert_eq!(id, MessageId::first_at(now + Duration::from_micros(999)));
        // The counter has 12 bits, then it runs into the next millisecond.
        let last = (1..4096).fold(id, |last, _| MessageId::next(Some(last), now));
        assert_eq!(last.time(), now);
        assert_eq!(MessageId::next(Some(last), now).time(), now + Duration::from_millis(1));
    }

    #[test]
    fn a_clock_before_2020_or_after_2089_is_no_problem() {
        let first = MessageId::next(None, SystemTime::UNIX_EPOCH);
        assert_eq!(first.as_u64(), 1);
        let late = MessageId::next(None, at(1 << 60));
        assert!(MessageId::next(Some(late), at(0)) > late && late < MessageId::MAX);
    }

    #[test]
    fn an_id_is_a_number_in_text_and_in_json() {
        for id in [0, 1, (1 << 53) - 1] {
            let id = MessageId::from_u64(id).unwrap();
            assert_eq!(id.to_string().parse(), Ok(id));
            let json = serde_json::to_string(&id).unwrap();
            assert_eq!(json, id.to_string());
            assert_eq!(serde_json::from_str::<MessageId>(&json).unwrap(), id);
        }
        for text in ["", " 1", "+1", "-1", "01", "1.0", "9007199254740992", "18446744073709551616"] {
            assert_eq!(text.parse::<MessageId>(), Err(ParseMessageIdError(())), "{text:?}");
        }
        assert!(serde_json::from_str::<MessageId>("9007199254740992").is_err());
        assert_eq!(MessageId::from_u64(1 << 53), None);
    }
}
