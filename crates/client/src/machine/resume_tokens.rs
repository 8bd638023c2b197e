//! The secrets that resume a session.

use tower_chat_rooms_protocol::MAX_RESUME_TOKENS;

/// Tokens of the connections that may hold the session, the oldest first.
#[derive(Debug, Default)]
pub(super) struct ResumeTokens(Vec<String>);

impl ResumeTokens {
    /// The server was asked on the connection with this token to resume the session or to enter. From now on this
    /// connection may hold the session, whether an answer arrives or not.
    pub(super) fn add(&mut self, token: &str) {
        if self.0.iter().any(|known| known == token) {
            return;
        }
        // The first token is that of the last connection that is known to have held the session. It is the right one
        // if nothing since has arrived; otherwise one of the latest is.
        if self.0.len() == MAX_RESUME_TOKENS {
            self.0.remove(1);
        }
        self.0.push(token.to_owned());
    }

    /// The connection with this token is known to hold the session.
    pub(super) fn replace(&mut self, token: Option<&str>) {
        self.0 = token.map(str::to_owned).into_iter().collect();
    }

    /// The tokens to resume with on the connection that has this one.
    pub(super) fn to_resume(&self, own: Option<&str>) -> Vec<&str> {
        self.0.iter().map(String::as_str).filter(|token| Some(*token) != own).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_latest_are_kept_until_the_server_has_answered() {
        let mut tokens = ResumeTokens::default();
        assert!(tokens.to_resume(None).is_empty());
        for n in 1..=10 {
            tokens.add(&n.to_string());
        }
        assert_eq!(tokens.to_resume(Some("10")), ["1", "4", "5", "6", "7", "8", "9"]);
        tokens.replace(Some("10"));
        assert!(tokens.to_resume(Some("10")).is_empty());
        assert_eq!(tokens.to_resume(Some("11")), ["10"]);
        tokens.replace(None);
        assert!(tokens.to_resume(None).is_empty());
    }
}
