//! What a `chat-rooms.v1` client resumes with: resume tokens, positions, and the ids of its messages.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;
use tower_chat_rooms_protocol::MAX_RESUME_TOKENS;
pub(crate) use tower_chat_rooms_protocol::{MAX_CID_BYTES, MAX_CIDS};

use crate::ids::MessageId;
use crate::protocol::error_code::{ErrorCode, PeerError};
use crate::protocol::json::unquote;
use crate::protocol::position::{Epoch, Position};

/// The secret that resumes a session: 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ResumeToken([u8; 16]);

impl ResumeToken {
    /// `None` if the system provides no randomness; the session then can't be resumed.
    pub(crate) fn new() -> Option<ResumeToken> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).ok()?;
        Some(ResumeToken(bytes))
    }

    /// The text for the `welcome`. It must not leave the process in another way.
    pub(crate) fn reveal(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }

    /// A byte that divides tokens evenly.
    pub(crate) fn random_byte(&self) -> u8 {
        self.0[0]
    }

    /// To be hashed.
    #[cfg(feature = "redis")]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn parse(text: &str) -> Option<ResumeToken> {
        let is_hex = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(|n| ResumeToken(n.to_be_bytes()))
    }
}

impl fmt::Debug for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResumeToken(..)")
    }
}

/// The `message` of a `resume`: an array of tokens. Tokens that can't be from this server are left out.
pub(crate) fn tokens(json: &str) -> Result<Vec<ResumeToken>, PeerError> {
    let wrong = || bad("\"resume\" needs as \"message\" an array of at most 8 tokens from \"welcome\"");
    let all: Vec<Cow<'_, str>> = serde_json::from_str(json).map_err(|_| wrong())?;
    if all.len() > MAX_RESUME_TOKENS {
        return Err(wrong());
    }
    Ok(all.iter().filter_map(|text| ResumeToken::parse(text)).collect())
}

/// The `since` of an enter. Its epoch may be any string, for example that of another server.
pub(crate) fn since(json: &str) -> Result<Position, PeerError> {
    let value: Value = serde_json::from_str(json).unwrap_or_default();
    match (value["epoch"].as_str(), value["seq"].as_u64()) {
        (Some(epoch), Some(seq)) => Ok(Position { epoch: Epoch::parse(epoch).unwrap_or(Epoch::OTHER), seq }),
        _ => Err(bad("\"since\" must be an object with an \"epoch\" and a \"seq\"")),
    }
}

/// The id of the latest message that the client has, in the `since` of an enter.
pub(crate) fn last_id(json: &str) -> Result<Option<MessageId>, PeerError> {
    let value: Value = serde_json::from_str(json).unwrap_or_default();
    match value.get("id") {
        None => Ok(None),
        Some(id) => match id.as_u64().and_then(MessageId::from_u64) {
            Some(id) => Ok(Some(id)),
            None => Err(bad("the \"id\" in \"since\" must be that of a message")),
        },
    }
}

/// The `last` of an enter.
pub(crate) fn last(json: &str) -> Result<usize, PeerError> {
    json.parse().map_err(|_| bad("\"last\" must be a number of messages"))
}

/// The `cid` of a message.
pub(crate) fn cid(json: &str) -> Result<Cow<'_, str>, PeerError> {
    match unquote(json) {
        Some(cid) if (1..=MAX_CID_BYTES).contains(&cid.len()) => Ok(cid),
        _ => Err(bad("\"cid\" must be a string of 1 to 64 bytes")),
    }
}

fn bad(text: &'static str) -> PeerError {
    PeerError::new(ErrorCode::BadShape, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_is_written_and_never_shown() {
        let token = ResumeToken::new().unwrap();
        assert_ne!(token, ResumeToken::new().unwrap());
        let json = format!("\"{}\"", token.reveal());
        assert_eq!(tokens(&format!("[{json}]")), Ok(vec![token]));
        assert_eq!(tokens(&format!("[\"x\",{json}]")), Ok(vec![token]));
        assert_eq!(format!("{token:?}"), "ResumeToken(..)");
        for json in ["7", "null", "[7]", "{}", &json, &format!("[{}]", ["\"\""; 9].join(","))] {
            assert_eq!(tokens(json).unwrap_err().code, ErrorCode::BadShape, "{json}");
        }
    }

    #[test]
    fn positions() {
        let position = Position { epoch: Epoch(0xab), seq: 7 };
        assert_eq!(since(r#"{"epoch":"00000000000000ab","seq":7}"#), Ok(position));
        let other = Position { epoch: Epoch::OTHER, seq: 7 };
        assert_eq!(since(r#"{"epoch":"of another server","seq":7}"#), Ok(other));
        for json in ["7", "null", "{}", r#"{"epoch":1,"seq":7}"#, r#"{"epoch":"00000000000000ab","seq":-1}"#]
        {
            assert_eq!(since(json).unwrap_err().code, ErrorCode::BadShape, "{json}");
        }
    }

    #[test]
    fn ids_of_messages() {
        assert_eq!(cid(r#""a\u0062""#).unwrap(), "ab");
        for json in ["7", "\"\"", "null", &format!("\"{}\"", "x".repeat(65))] {
            assert_eq!(cid(json).unwrap_err().code, ErrorCode::BadShape, "{json}");
        }
    }
}
