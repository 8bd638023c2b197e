//! The claims of a token, and the user that they describe.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::hooks::user::{Denied, User};
use crate::ids::{MaxLen, Name};

/// The claims of a user's token. Get them with [`User::get`].
///
/// ```
/// use serde::Deserialize;
/// use tower_chat_rooms::{Claims, User};
///
/// #[derive(Deserialize)]
/// struct Mine {
///     role: String,
/// }
///
/// fn is_moderator(user: &User) -> bool {
///     user.get::<Claims>()
///         .and_then(|claims| claims.parse::<Mine>().ok())
///         .is_some_and(|mine| mine.role == "moderator")
/// }
/// # assert!(!is_moderator(&User::new("x")));
/// ```
#[derive(Clone)]
pub struct Claims(Arc<str>);

impl Claims {
    /// Deserializes the claims.
    ///
    /// # Errors
    ///
    /// If they do not fit the type.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Box<dyn std::error::Error + Send + Sync>> {
        Ok(serde_json::from_str(&self.0)?)
    }
}

/// Claims may be confidential, so they are not shown.
impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claims(..)")
    }
}

/// The user that the claims of a verified token describe. `leeway` is the one that was used to check `exp`, in
/// seconds.
pub(super) fn user(raw: &RawValue, id: &str, name: &str, leeway: u64) -> Result<User, Denied> {
    let claims: Map<String, Value> =
        serde_json::from_str(raw.get()).map_err(|_| Denied::new("the token's claims are not an object"))?;
    let text = |claim: &str| match claims.get(claim) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(n)) => Some(n.to_string()),
        _ => None,
    };
    let user_id = text(id).ok_or_else(|| Denied::new(format!("the token lacks the claim \"{id}\"")))?;
    let mut user = User::new(user_id).with(Claims(raw.get().into()));
    if let Some(end) = claims.get("exp").and_then(|exp| end(exp, leeway)) {
        user = user.expires_at(end);
    }
    if let Some(own) = text(name) {
        // With an invalid name, the user could not enter any room.
        Name::parse(&own, MaxLen::ANY)
            .map_err(|e| Denied::new(format!("the token's \"{name}\" is not a valid name: it {e}")))?;
        user = user.with_name(own);
    }
    Ok(user)
}

/// `None` for a time beyond the clock's range.
fn end(exp: &Value, leeway: u64) -> Option<SystemTime> {
    // jsonwebtoken reads `exp` in the same way, and has refused other values. The cast saturates.
    let seconds = exp.as_u64().or_else(|| exp.as_f64().map(|seconds| seconds.round() as u64))?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds.saturating_add(leeway)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn expiries_beyond_the_clock_never_come() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(end(&json!(100), 60), Some(at(160)));
        assert_eq!(end(&json!(99.6), 0), Some(at(100)));
        assert_eq!(end(&json!(u64::MAX), 60), None);
        assert_eq!(end(&json!(1e300), 60), None);
        assert_eq!(end(&json!(-5.0), 1), Some(at(1)));
        assert_eq!(end(&json!("100"), 60), None);
    }
}
