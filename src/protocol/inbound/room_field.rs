//! The `roomId` of an enter.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::protocol::json::unquote;

/// What an enter says about the room.
#[derive(Debug, PartialEq)]
pub(crate) enum RoomField<'a> {
    Id(Cow<'a, str>),
    /// Neither string nor number nor null.
    Invalid,
    /// Missing, but there is another key that was probably meant to be `roomId`.
    OtherKey,
}

impl RoomField<'_> {
    pub(crate) fn id(&self) -> Option<&str> {
        match self {
            RoomField::Id(id) => Some(id),
            RoomField::Invalid | RoomField::OtherKey => None,
        }
    }

    /// `has_other_key` says whether there is another key that was probably meant to be `roomId`.
    pub(super) fn of(raw: Option<&RawValue>, has_other_key: bool) -> RoomField<'_> {
        let Some(raw) = raw else {
            return if has_other_key { RoomField::OtherKey } else { RoomField::Id("".into()) };
        };
        if let Some(text) = unquote(raw.get()) {
            return RoomField::Id(text);
        }
        match raw.get() {
            "null" => RoomField::Id("".into()),
            text if text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => RoomField::of_number(text),
            _ => RoomField::Invalid,
        }
    }

    /// The room id for a number: integers unchanged, others as the shortest decimal, so that `42`, `42.0` and `4.2e1`
    /// are the same room.
    fn of_number(text: &str) -> RoomField<'_> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.bytes().all(|b| b.is_ascii_digit()) {
            return RoomField::Id(if text == "-0" { "0".into() } else { text.into() });
        }
        match text.parse::<f64>() {
            // Adding zero turns -0.0 into 0.0.
            Ok(n) if n.is_finite() => RoomField::Id((n + 0.0).to_string().into()),
            _ => RoomField::Invalid,
        }
    }
}
