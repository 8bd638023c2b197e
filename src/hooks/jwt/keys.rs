//! Key sets that can be replaced while the server runs (RFC 7517).

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use serde_json::Value;

use crate::hooks::jwt::key::{JwtConfigError, Key};
use crate::hooks::user::Denied;

/// The maximum size of a set's JSON in bytes.
const MAX_BYTES: usize = 256 * 1024;

/// The maximum number of keys in a set.
const MAX_KEYS: usize = 128;

type ById = HashMap<Box<str>, Arc<Key>>;

/// An issuer's public keys: a JSON Web Key Set (RFC 7517).
///
/// Clones share the keys. Keep a clone to [`replace`](JwtKeys::replace) them when the issuer does.
///
/// A token has to name its key (`kid`) and is verified with that key and the key's algorithm only. The algorithm is
/// the key's `alg`, or else the one of its curve, or else RS256 for RSA. Keys in a token's header (`jwk`, `jku`, `x5c`,
/// `x5u`) are never used.
///
/// Supported keys are RSA of at least 2,048 bits, EC on P-256 and P-384, and Ed25519. Keys of other types and keys for
/// encryption are ignored. A set is refused if it holds a secret (`"kty":"oct"`, or a private key), a key without
/// `kid`, the same `kid` twice, or no usable key, and if it is larger than 256 KiB or has more than 128 keys.
///
/// ```
/// use tower_chat_rooms::{ChatRooms, JwtAuth, JwtKeys};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let keys = JwtKeys::parse(
///     r#"{"keys":[{"kid":"2025-01","kty":"EC","crv":"P-256","use":"sig",
///         "x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
///         "y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#,
/// )?;
/// let rooms = ChatRooms::builder().auth(JwtAuth::from_keys(keys.clone())).build()?;
/// assert_eq!(keys.ids(), ["2025-01"]);
///
/// // A set that is refused changes nothing.
/// assert!(keys.replace(r#"{"keys":[]}"#).is_err());
/// assert_eq!(keys.ids(), ["2025-01"]);
/// # drop(rooms);
/// # Ok(())
/// # }
/// ```
///
/// This crate does not fetch key sets. Run a task that fetches the set over HTTPS from time to time. Issuers publish a
/// key hours before they sign with it:
///
/// ```
/// # use tower_chat_rooms::JwtKeys;
/// # async fn fetch(_: &str) -> Result<String, std::io::Error> { Ok(String::new()) }
/// async fn refresh(keys: JwtKeys) {
///     loop {
///         tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
///         match fetch("https://accounts.example/.well-known/jwks.json").await {
///             Ok(json) => {
///                 if let Err(error) = keys.replace(json) {
///                     eprintln!("the old keys stay: {error}");
///                 }
///             }
///             Err(error) => eprintln!("the old keys stay: {error}"),
///         }
///     }
/// }
/// # let _ = refresh;
/// ```
///
/// Removing a key ends no connection. A user expires with its token.
#[derive(Clone)]
pub struct JwtKeys {
    by_id: Arc<RwLock<Arc<ById>>>,
}

impl JwtKeys {
    /// Parses a set from JSON.
    ///
    /// # Errors
    ///
    /// If the set is refused (see above), or no crypto provider is active.
    pub fn parse(json: impl AsRef<[u8]>) -> Result<JwtKeys, JwtConfigError> {
        Ok(JwtKeys { by_id: Arc::new(RwLock::new(Arc::new(parse(json.as_ref())?))) })
    }

    /// Replaces the set, in all clones.
    ///
    /// # Errors
    ///
    /// As for [`JwtKeys::parse`]. The old keys then stay in use.
    pub fn replace(&self, json: impl AsRef<[u8]>) -> Result<(), JwtConfigError> {
        let new = Arc::new(parse(json.as_ref())?);
        *self.by_id.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Returns the ids of the keys in use, sorted.
    pub fn ids(&self) -> Vec<String> {
        let mut ids: Vec<String> = self.current().keys().map(|id| id.to_string()).collect();
        ids.sort();
        ids
    }

    /// Returns the key that a token names.
    pub(super) fn find(&self, kid: Option<&str>) -> Result<Arc<Key>, Denied> {
        let kid = kid.ok_or_else(|| Denied::new("the token does not name its key (\"kid\")"))?;
        let key = self.current().get(kid).cloned();
        key.ok_or_else(|| Denied::new("the token's key (\"kid\") is unknown; get a new token"))
    }

    fn current(&self) -> Arc<ById> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for JwtKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtKeys").field("ids", &self.ids()).finish_non_exhaustive()
    }
}

fn parse(json: &[u8]) -> Result<ById, JwtConfigError> {
    let refuse = |why: String| Err(JwtConfigError::new(format!("the key set {why}")));
    if json.len() > MAX_BYTES {
        return refuse(format!("has {} bytes; at most {MAX_BYTES} are allowed", json.len()));
    }
    // serde_json's message might quote the set.
    let set: Value = match serde_json::from_slice(json) {
        Ok(set) => set,
        Err(e) => return refuse(format!("is not JSON; see line {}, column {}", e.line(), e.column())),
    };
    let Some(keys) = set["keys"].as_array() else {
        return refuse("must be an object with an array \"keys\"".into());
    };
    if keys.len() > MAX_KEYS {
        return refuse(format!("has {} keys; at most {MAX_KEYS} are allowed", keys.len()));
    }
    let mut by_id = ById::new();
    for (n, value) in keys.iter().enumerate() {
        let n = n + 1;
        if value["kty"] == "oct" || !value["d"].is_null() {
            return refuse(format!("holds a secret in key {n}; use public keys only"));
        }
        let Ok(jwk) = serde_json::from_value::<Jwk>(value.clone()) else { continue };
        if jwk.common.public_key_use.as_ref().is_some_and(|used| *used != PublicKeyUse::Signature) {
            continue;
        }
        let key = match Key::from_jwk(&jwk) {
            None => continue,
            Some(Ok(key)) => key,
            Some(Err(e)) => return refuse(format!("cannot be used because of key {n}: {e}")),
        };
        let Some(kid) = jwk.common.key_id else {
            return refuse(format!("has no \"kid\" for key {n}, so no token could name the key"));
        };
        if by_id.insert(kid.as_str().into(), Arc::new(key)).is_some() {
            return refuse(format!("has the \"kid\" {kid:?} twice"));
        }
    }
    if by_id.is_empty() {
        return refuse("has no key for signatures (RSA, EC on P-256 or P-384, Ed25519)".into());
    }
    Ok(by_id)
}
