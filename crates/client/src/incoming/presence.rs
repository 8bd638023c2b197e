//! Parses frames about the members of a room.

use std::collections::HashMap;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{number, string};
use crate::presence::{Member, PresenceMode};

/// A page of a roster, in the order in which the members have entered. The first page is in `entered`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Page {
    pub(crate) mode: PresenceMode,
    /// Number of members in the room.
    pub(crate) num: u64,
    /// Number of different users among them.
    pub(crate) users: u64,
    /// `None` if the room has no roster.
    pub(crate) members: Option<Vec<Member>>,
    /// The cursor of the next page, if there is one.
    pub(crate) next: Option<String>,
}

/// A change of a member. `None` means no change, and [`Value::Null`] means that the value was removed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StateChange {
    pub(crate) member: String,
    pub(crate) num: Option<u64>,
    pub(crate) state: Option<Value>,
    pub(crate) info: Option<Value>,
    pub(crate) user: Option<Value>,
    /// Whether this member may not send messages. Told only to the member itself.
    pub(crate) is_read_only: Option<bool>,
}

impl Page {
    /// If the server sends no mode, the room is treated as one in quiet mode.
    pub(super) fn of(object: &Map<String, Value>) -> Page {
        let mode = object.get("mode").and_then(Value::as_str).and_then(PresenceMode::parse);
        let members = object.get("members").and_then(Value::as_array);
        let member = |member: &Value| member.as_object().and_then(Member::of);
        Page {
            mode: mode.unwrap_or(PresenceMode::Quiet),
            num: number(object, "num").unwrap_or(0),
            users: number(object, "users").unwrap_or(0),
            members: members
                .filter(|_| mode == Some(PresenceMode::Full))
                .map(|members| members.iter().filter_map(member).collect()),
            next: string(object, "next"),
        }
    }
}

impl StateChange {
    pub(super) fn of(object: &Map<String, Value>) -> Option<StateChange> {
        let value = |key| object.get(key).cloned();
        Some(StateChange {
            member: string(object, "member")?,
            num: number(object, "num"),
            state: value("state"),
            info: value("info"),
            user: value("user"),
            is_read_only: object.get("readOnly").and_then(Value::as_bool),
        })
    }
}

/// An `entered` or `members` frame without the values that this client can't represent, because an info or a state may
/// be too deeply nested. `None` if it is another frame.
pub(super) fn readable_part(text: &str) -> Option<Map<String, Value>> {
    let frame: HashMap<&str, &RawValue> = serde_json::from_str(text).ok()?;
    let event: &str = serde_json::from_str(frame.get("event")?.get()).ok()?;
    if !["entered", "members"].contains(&event) {
        return None;
    }
    let mut object = readable_values(&frame);
    if let Some(members) = frame.get("members") {
        let members: Vec<HashMap<&str, &RawValue>> = serde_json::from_str(members.get()).ok()?;
        let members = members.iter().map(|member| Value::Object(readable_values(member)));
        object.insert("members".into(), members.collect());
    }
    Some(object)
}

fn readable_values(object: &HashMap<&str, &RawValue>) -> Map<String, Value> {
    let values = object
        .iter()
        .filter_map(|(key, value)| Some(((*key).to_owned(), serde_json::from_str(value.get()).ok()?)));
    values.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Incoming;
    use super::*;

    fn page(value: Value) -> Page {
        Page::of(value.as_object().unwrap())
    }

    #[test]
    fn only_full_mode_has_a_roster() {
        let members = json!([{"member": "1", "name": "ann"}, 7, {"name": "nobody"}]);
        let full = page(json!({"mode": "full", "num": 2, "users": 1, "members": members, "next": "c"}));
        let ids = full.members.iter().flatten().map(Member::id);
        assert_eq!(ids.collect::<Vec<_>>(), ["1"]);
        assert_eq!((full.mode, full.num, full.users), (PresenceMode::Full, 2, 1));
        assert_eq!(full.next.as_deref(), Some("c"));
        let count = page(json!({"mode": "count", "num": 2, "members": members}));
        assert_eq!((count.mode, count.members), (PresenceMode::Count, None));
        let old = page(json!({"num": 2, "members": members}));
        assert_eq!((old.mode, old.members), (PresenceMode::Quiet, None));
    }

    #[test]
    fn a_value_that_can_not_be_read_does_not_hide_the_members() {
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        let text = format!(
            r#"{{"event":"members","roomId":"r","seq":7,"mode":"full","num":2,"users":0,"members":[
               {{"member":"1","name":"ann","info":{deep}}},{{"member":"2","name":"bob","state":1}}]}}"#
        );
        let Incoming::Members { room, page } = Incoming::parse(&text) else { panic!() };
        let members = page.members.unwrap();
        assert_eq!((room.as_deref(), page.num, members.len()), (Some("r"), 2, 2));
        assert_eq!((members[0].name(), members[0].info()), ("ann", None));
        assert_eq!(members[1].state(), Some(&json!(1)));
        let text = text.replace(r#""members","#, r#""message","#);
        assert!(matches!(Incoming::parse(&text), Incoming::Unreadable { seq: Some(7), .. }));
    }

    #[test]
    fn a_missing_key_is_no_change_and_null_is_none() {
        let frame = json!({"member": "1", "state": null, "info": {"a": 1}});
        let change = StateChange::of(frame.as_object().unwrap()).unwrap();
        assert_eq!((change.state, change.user), (Some(Value::Null), None));
        assert_eq!(change.info, Some(json!({"a": 1})));
    }
}
