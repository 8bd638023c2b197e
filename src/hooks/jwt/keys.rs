//! Keys by their ids, to be replaced while the server runs (RFC 7517).

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use serde_json::Value;

use crate::hooks::jwt::key::{JwtConfigError, Key};
use crate::hooks::user::Denied;

/// Bytes of a set's JSON.
const MAX_BYTES: usize = 256 * 1024;

/// Keys in a set.
const MAX_KEYS: usize = 128;

type ById = HashMap<Box<str>, Arc<Key>>;

/// The public keys of an issuer, each with its id (`kid`): a JSON Web Key Set (RFC 7517). Clones
/// share the keys, so the host keeps one to replace them when the issuer does.
///
/// A token has to name its key by `kid`, and is checked with that key and the key's own algorithm
/// alone: the `alg` that the set gives it, else what its curve implies, else, for RSA, RS256. What
/// a token's header holds of keys (`jwk`, `jku`, `x5c`, `x5u`) is never used.
///
/// RSA of at least 2,048 bits, EC on P-256 and P-384, and Ed25519 are taken. Keys of other kinds
/// and those for encryption are left out. A set is refused as a whole if it holds a secret
/// (`"kty":"oct"`, or a private key), a key without a `kid`, one `kid` twice, or nothing that can
/// be used, and if it is longer than 256 KiB or has more than 128 keys.
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
/// // A set that can't be used changes nothing.
/// assert!(keys.replace(r#"{"keys":[]}"#).is_err());
/// assert_eq!(keys.ids(), ["2025-01"]);
/// # drop(rooms);
/// # Ok(())
/// # }
/// ```
///
/// Where the set comes from is the host's affair; this crate fetches nothing. Have a task fetch it
/// anew every so often (an issuer announces a key hours before it signs with it), over HTTPS:
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
/// A key that is gone ends no connection: those stay as long as the token they came with.
#[derive(Clone)]
pub struct JwtKeys {
    by_id: Arc<RwLock<Arc<ById>>>,
}

impl JwtKeys {
    /// Reads a set from its JSON.
    ///
    /// # Errors
    /// If it is refused (see above), or no crypto provider is active.
    pub fn parse(json: impl AsRef<[u8]>) -> Result<JwtKeys, JwtConfigError> {
        Ok(JwtKeys { by_id: Arc::new(RwLock::new(Arc::new(parse(json.as_ref())?))) })
    }

    /// Puts another set in the place of this one, from now on and for all clones.
    ///
    /// # Errors
    /// As for [`JwtKeys::parse`]; the old keys then stay in force.
    pub fn replace(&self, json: impl AsRef<[u8]>) -> Result<(), JwtConfigError> {
        let new = Arc::new(parse(json.as_ref())?);
        *self.by_id.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// The ids of the keys that are in force, in order.
    pub fn ids(&self) -> Vec<String> {
        let mut ids: Vec<String> = self.now().keys().map(|id| id.to_string()).collect();
        ids.sort();
        ids
    }

    /// The key with which a token says that it is signed.
    pub(super) fn find(&self, kid: Option<&str>) -> Result<Arc<Key>, Denied> {
        let kid = kid.ok_or_else(|| Denied::new("the token does not name its key (\"kid\")"))?;
        let key = self.now().get(kid).cloned();
        key.ok_or_else(|| Denied::new("the token's key (\"kid\") is not known here; get a new token"))
    }

    fn now(&self) -> Arc<ById> {
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
        return refuse(format!("has {} bytes; at most {MAX_BYTES} are taken", json.len()));
    }
    // serde_json's own words might quote it.
    let set: Value = match serde_json::from_slice(json) {
        Ok(set) => set,
        Err(e) => return refuse(format!("is not JSON: see line {}, column {}", e.line(), e.column())),
    };
    let Some(keys) = set["keys"].as_array() else {
        return refuse("must be an object with an array \"keys\"".into());
    };
    if keys.len() > MAX_KEYS {
        return refuse(format!("has {} keys; at most {MAX_KEYS} are taken", keys.len()));
    }
    let mut by_id = ById::new();
    for (n, value) in keys.iter().enumerate() {
        let n = n + 1;
        if value["kty"] == "oct" || !value["d"].is_null() {
            return refuse(format!("holds a secret, in key {n}; give public keys only"));
        }
        let Ok(jwk) = serde_json::from_value::<Jwk>(value.clone()) else { continue };
        if jwk.common.public_key_use.as_ref().is_some_and(|used| *used != PublicKeyUse::Signature) {
            continue;
        }
        let key = match Key::from_jwk(&jwk) {
            None => continue,
            Some(Ok(key)) => key,
            Some(Err(e)) => return refuse(format!("can't be used, because of key {n}: {e}")),
        };
        let Some(kid) = jwk.common.key_id else {
            return refuse(format!("has no \"kid\" for key {n}, so no token could name it"));
        };
        if by_id.insert(kid.as_str().into(), Arc::new(key)).is_some() {
            return refuse(format!("has the \"kid\" {kid:?} twice"));
        }
    }
    if by_id.is_empty() {
        return refuse("holds no key to check signatures with (RSA, EC on P-256 or P-384, Ed25519)".into());
    }
    Ok(by_id)
}
