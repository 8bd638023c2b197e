//! An object of a client whose keys are kept except for some.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::string;

/// All members of an object, unparsed.
#[derive(Default)]
pub(super) struct Members<'a>(pub(super) Vec<(&'a RawValue, &'a RawValue)>);

impl Members<'_> {
    /// The object's text without its closing brace and without these keys.
    pub(super) fn without(&self, drop: &[&str]) -> String {
        let mut text = String::from("{");
        for (key, value) in &self.0 {
            if drop.contains(&&*string(key).unwrap_or_default()) {
                continue;
            }
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(key.get());
            text.push(':');
            text.push_str(value.get());
        }
        text
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some(member) = map.next_entry()? {
                    all.push(member);
                }
                Ok(Members(all))
            }
        }
        d.deserialize_map(V)
    }
}
