//! A client's message to a user.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::envelope::Envelope;
use super::members::Members;
use super::{explain, string};
use crate::protocol::direct::NOT_RELAYED;
use crate::protocol::error_code::{ErrorCode, PeerError};

/// A message to a user.
#[derive(Debug, PartialEq)]
pub(crate) struct Direct<'a> {
    /// The user's id.
    pub(crate) to: Cow<'a, str>,
    /// What is relayed: an object up to its closing brace.
    pub(crate) body: String,
    /// The `cid`, unparsed.
    pub(crate) cid: Option<&'a str>,
}

impl<'a> Direct<'a> {
    pub(super) fn parse(text: &'a str, envelope: &Envelope<'a>) -> Result<Direct<'a>, PeerError> {
        let members: Members<'a> = serde_json::from_str(text).map_err(|e| explain(text, &e))?;
        let mut to = members.0.iter().filter(|(key, _)| string(key).is_some_and(|key| key == "to"));
        let (Some((_, to)), None) = (to.next(), to.next()) else {
            return Err(PeerError::new(ErrorCode::BadShape, "\"to\" must be the id of a user"));
        };
        let to = string(to).ok_or_else(|| PeerError::new(ErrorCode::BadShape, "\"to\" must be a string"))?;
        let cid = envelope.cid.map(RawValue::get);
        Ok(Direct { to, body: members.without(&NOT_RELAYED), cid })
    }
}
