//! Which JSON is valid on this wire. A frame is relayed byte for byte, so every client must be able
//! to read what any other client sends: strings without lone surrogates (RFC 8259 §8.2), and numbers
//! within the range of a double (§6).

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Longer numbers may be out of range even without an exponent.
const MAX_DIGITS: usize = 300;

/// Whether the text may contain something that many parsers refuse. Most texts need no further check.
pub(super) fn needs_check(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (mut before, mut found) = (0, false);
    // Without a branch, so that the compiler can process many bytes at a time.
    for &byte in bytes {
        found |= (before == b'\\') & (byte == b'u') | before.is_ascii_digit() & (byte | 0x20 == b'e');
        before = byte;
    }
    found || (bytes.len() > MAX_DIGITS && has_long_number(bytes))
}

fn has_long_number(bytes: &[u8]) -> bool {
    let mut run = 0;
    bytes.iter().any(|byte| {
        run = if byte.is_ascii_digit() { run + 1 } else { 0 };
        run > MAX_DIGITS
    })
}

/// Reads every string and number of the text.
pub(super) fn check(text: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<Checked>(text).map(|Checked| ())
}

/// Any value, read to its end.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Checked, D::Error> {
        d.deserialize_any(Checked)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = Checked;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: Error>(self) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Checked, A::Error> {
        while seq.next_element::<Checked>()?.is_some() {}
        Ok(Checked)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Checked, A::Error> {
        while map.next_entry::<Checked, Checked>()?.is_some() {}
        Ok(Checked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_valid(text: &str) -> bool {
        !needs_check(text) || check(text).is_ok()
    }

    #[test]
    fn what_some_clients_cannot_read_is_invalid() {
        for text in [
            r#"{"a":"\ud83d"}"#,
            r#"{"a":"\ude00\ud83d"}"#,
            r#"{"\ud83d":1}"#,
            r#"{"a":[{"b":1e400}]}"#,
            r#"{"a":-1E+999}"#,
            &format!("{{\"a\":{}}}", "9".repeat(400)),
        ] {
            assert!(!is_valid(text), "{text}");
        }
    }

    #[test]
    fn everything_else_is_valid() {
        for text in [
            r#"{"a":"\ud83d\ude00 \u0061","b":1e300,"c":[true,null,-0,1.5,"1e999"]}"#,
            r#"{"a":"\\ud83d"}"#,
            &format!("{{\"a\":{},\"b\":\"{}\"}}", "9".repeat(299), "9".repeat(999)),
        ] {
            assert!(is_valid(text), "{text}");
        }
    }
}
