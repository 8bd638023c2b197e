//! The secrets that resume a session, and until when they do.

use std::time::Duration;

use tower_chat_rooms_protocol::MAX_RESUME_TOKENS;

use super::Now;

/// Near the end of the resume window, the longest wait is not reduced below this. A server that is down would be tried
/// too often.
const LEAST_LONGEST_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct ResumeTokens {
    /// Tokens of the connections that may hold the session, the oldest first.
    tokens: Vec<String>,
    /// When the resume window ends of the last connection that is known to have held the session.
    resumable_until: Now,
}

impl ResumeTokens {
    /// The server was asked on the connection with this token to resume the session or to enter. From now on this
    /// connection may hold the session, whether an answer arrives or not.
    pub(super) fn add(&mut self, token: &str) {
        if self.tokens.iter().any(|known| known == token) {
            return;
        }
        // The first token is that of the last connection that is known to have held the session. It is the right one
        // if nothing since has arrived; otherwise one of the latest is.
        if self.tokens.len() == MAX_RESUME_TOKENS {
            self.tokens.remove(1);
        }
        self.tokens.push(token.to_owned());
    }

    /// The connection with this token is known to hold the session.
    pub(super) fn replace(&mut self, token: Option<&str>) {
        self.tokens = token.map(str::to_owned).into_iter().collect();
    }

    /// The session has ended.
    pub(super) fn forget(&mut self) {
        *self = ResumeTokens::default();
    }

    /// The connection with this token is lost. If it held the session, the server keeps the session for the resume
    /// window.
    pub(super) fn on_lost(&mut self, token: &str, resume_window: Duration, now: Now) {
        // If the server has not answered, the session may still be that of an earlier connection, whose window ends
        // sooner.
        if self.tokens == [token] {
            self.resumable_until = now.saturating_add(resume_window);
        }
    }

    /// The longest time to wait before the next attempt to connect. If an attempt fails while the session can be
    /// resumed, there is time for another one.
    pub(super) fn longest_wait(&self, now: Now) -> Duration {
        let left = self.resumable_until.saturating_sub(now);
        if left.is_zero() { Duration::MAX } else { (left / 2).max(LEAST_LONGEST_WAIT) }
    }

    /// The tokens to resume with on the connection that has this one.
    pub(super) fn to_resume(&self, own: Option<&str>) -> Vec<&str> {
        self.tokens.iter().map(String::as_str).filter(|token| Some(*token) != own).collect()
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
        tokens.forget();
        assert!(tokens.to_resume(None).is_empty());
    }

    #[test]
    fn the_wait_leaves_room_for_another_attempt_while_the_session_can_be_resumed() {
        let secs = Duration::from_secs_f64;
        let mut tokens = ResumeTokens::default();
        tokens.on_lost("1", secs(10.0), secs(5.0));
        assert_eq!(tokens.longest_wait(secs(5.0)), Duration::MAX, "there is no session");
        tokens.replace(Some("1"));
        tokens.on_lost("1", secs(10.0), secs(20.0));
        // The server may not have read what was sent on this connection.
        tokens.add("2");
        tokens.on_lost("2", secs(10.0), secs(23.0));
        for (now, longest) in [(20.0, 5.0), (23.0, 3.5), (27.0, 1.5), (28.5, 1.0), (29.9, 1.0)] {
            assert_eq!(tokens.longest_wait(secs(now)), secs(longest), "at {now} s");
        }
        assert_eq!(tokens.longest_wait(secs(30.0)), Duration::MAX);
        tokens.replace(Some("3"));
        tokens.on_lost("3", secs(120.0), secs(31.0));
        assert_eq!(tokens.longest_wait(secs(31.0)), secs(60.0));
        tokens.on_lost("3", secs(0.0), secs(31.0));
        assert_eq!(tokens.longest_wait(secs(31.0)), Duration::MAX, "the server keeps no sessions");
        tokens.on_lost("3", secs(10.0), secs(31.0));
        tokens.forget();
        assert_eq!(tokens.longest_wait(secs(31.0)), Duration::MAX);
    }
}
