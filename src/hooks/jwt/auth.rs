//! `JwtAuth`: verifies tokens.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::request::Parts;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation};
use serde_json::value::RawValue;

use crate::hooks::auth::{Admission, AuthRefusal, Authenticate};
use crate::hooks::jwt::claims;
use crate::hooks::jwt::key::{JwtAlgorithm, JwtConfigError, Key};
use crate::hooks::jwt::keys::JwtKeys;
use crate::hooks::jwt::token_source::TokenSources;
use crate::hooks::user::{Denied, User};

/// Authenticates with JSON Web Tokens (RFC 7519).
///
/// The upgrade request can carry the token in `Authorization: Bearer`, in a `Sec-WebSocket-Protocol` entry
/// `bearer.TOKEN`, and, if configured, in a cookie or in the query. If that token is not valid, the upgrade is
/// refused with 401. If there is none, the client has to send a token over the connection, as
/// `{"event":"auth","message":TOKEN}`, unless you accept [anonymous clients](JwtAuth::with_optional_token).
///
/// A token needs an expiry (`exp`) in the future, and a user in `sub`. A time in `nbf` must have passed. A
/// `name` claim becomes the user's name in every room. All claims are attached to the [`User`] as
/// [`Claims`](crate::Claims).
///
/// The user expires with the token, plus the leeway. The client can send a new token before that: see
/// [`OnExpiry`](crate::OnExpiry).
///
/// ```
/// # // The doctest's own crate has jsonwebtoken with the feature `rust_crypto`.
/// use std::time::Duration;
/// use tower_chat_rooms::{ChatRooms, JwtAuth};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let auth = JwtAuth::hs256("at least thirty-two bytes of secret")?
///     .with_issuer("https://accounts.example")
///     .with_audience("chat")
///     .with_leeway(Duration::from_secs(5))
///     .with_cookie("session");
/// let rooms = ChatRooms::builder().auth(auth).build()?;
/// # drop(rooms);
/// assert!(JwtAuth::hs256("short").unwrap_err().to_string().contains("32 bytes"));
/// # Ok(())
/// # }
/// ```
///
/// **You choose the crypto backend**: depend on `jsonwebtoken` with exactly one of its features `rust_crypto` and
/// `aws_lc_rs`, or call its `CryptoProvider::install_default` before the constructors below. They return an error if
/// there is no provider.
#[derive(Clone)]
pub struct JwtAuth {
    keys: Keyring,
    /// Everything except the algorithm, which the key determines.
    validation: Validation,
    id_claim: Cow<'static, str>,
    name_claim: Cow<'static, str>,
    sources: TokenSources,
    is_required: bool,
}

#[derive(Clone)]
enum Keyring {
    One(Arc<Key>),
    ById(JwtKeys),
}

impl JwtAuth {
    /// Verifies HMAC with SHA-256, with a shared secret of at least 32 bytes.
    ///
    /// # Errors
    ///
    /// If the secret is shorter than the hash (RFC 7518 §3.2), or no crypto provider is active.
    pub fn hs256(secret: impl AsRef<[u8]>) -> Result<JwtAuth, JwtConfigError> {
        JwtAuth::hmac(Algorithm::HS256, secret.as_ref(), 32)
    }

    /// Verifies HMAC with SHA-384, with a shared secret of at least 48 bytes.
    ///
    /// # Errors
    ///
    /// As for [`JwtAuth::hs256`].
    pub fn hs384(secret: impl AsRef<[u8]>) -> Result<JwtAuth, JwtConfigError> {
        JwtAuth::hmac(Algorithm::HS384, secret.as_ref(), 48)
    }

    /// Verifies HMAC with SHA-512, with a shared secret of at least 64 bytes.
    ///
    /// # Errors
    ///
    /// As for [`JwtAuth::hs256`].
    pub fn hs512(secret: impl AsRef<[u8]>) -> Result<JwtAuth, JwtConfigError> {
        JwtAuth::hmac(Algorithm::HS512, secret.as_ref(), 64)
    }

    /// Verifies with a public key in PEM. RSA keys need at least 2,048 bits.
    ///
    /// # Errors
    ///
    /// If the PEM holds no public key for this algorithm, or no crypto provider is active.
    pub fn from_pem(algorithm: JwtAlgorithm, pem: impl AsRef<[u8]>) -> Result<JwtAuth, JwtConfigError> {
        Ok(JwtAuth::new(Keyring::One(Arc::new(Key::from_pem(algorithm, pem.as_ref())?))))
    }

    /// Verifies with an issuer's key set. Each token names its key (`kid`).
    pub fn from_keys(keys: JwtKeys) -> JwtAuth {
        JwtAuth::new(Keyring::ById(keys))
    }

    fn hmac(algorithm: Algorithm, secret: &[u8], min: usize) -> Result<JwtAuth, JwtConfigError> {
        Ok(JwtAuth::new(Keyring::One(Arc::new(Key::from_secret(algorithm, secret, min)?))))
    }

    fn new(keys: Keyring) -> JwtAuth {
        let validation = Validation { validate_nbf: true, ..Validation::default() };
        JwtAuth {
            keys,
            validation,
            id_claim: "sub".into(),
            name_claim: "name".into(),
            sources: TokenSources::default(),
            is_required: true,
        }
    }

    /// Requires this issuer (`iss`).
    #[must_use]
    pub fn with_issuer(mut self, issuer: impl Into<String>) -> JwtAuth {
        self.validation.set_issuer(&[issuer.into()]);
        self.add_required("iss")
    }

    /// Requires this audience (`aud`). Without it, tokens that name an audience are refused (RFC 7519 §4.1.3).
    #[must_use]
    pub fn with_audience(mut self, audience: impl Into<String>) -> JwtAuth {
        self.validation.set_audience(&[audience.into()]);
        self.add_required("aud")
    }

    /// Sets how far clocks may differ, for `exp` and `nbf`. Default: 60 s. At most one day.
    #[must_use]
    pub fn with_leeway(mut self, leeway: Duration) -> JwtAuth {
        self.validation.leeway = leeway.as_secs().min(24 * 60 * 60);
        self
    }

    /// Requires another registered claim: `exp`, `nbf`, `aud`, `iss` or `sub`.
    #[must_use]
    pub fn add_required(mut self, claim: &str) -> JwtAuth {
        self.validation.required_spec_claims.insert(claim.into());
        self
    }

    /// Accepts tokens without `exp`, which never expire. An `exp` is still checked.
    #[must_use]
    pub fn with_optional_expiry(mut self) -> JwtAuth {
        self.validation.required_spec_claims.remove("exp");
        self
    }

    /// Sets the claim that becomes the [`User`]'s id, a string or a number. Default: `sub`.
    #[must_use]
    pub fn with_id_claim(mut self, claim: impl Into<String>) -> JwtAuth {
        self.id_claim = claim.into().into();
        self
    }

    /// Sets the claim that becomes the user's name in every room. Default: `name`. If a token does not have it, the
    /// client chooses its name.
    #[must_use]
    pub fn with_name_claim(mut self, claim: impl Into<String>) -> JwtAuth {
        self.name_claim = claim.into().into();
        self
    }

    /// Accepts clients without a token as anonymous, for example as guests whom your
    /// [`RoomPolicy`](crate::RoomPolicy) lets only read. They can still send a token over the connection later. A token that
    /// is not valid is refused as before.
    #[must_use]
    pub fn with_optional_token(mut self) -> JwtAuth {
        self.is_required = false;
        self
    }

    /// Accepts the token in a cookie as well.
    ///
    /// Browsers send cookies with requests from any page. For this reason, pages of other origins may not connect
    /// unless [`Origins`](crate::Origins) allows them.
    #[must_use]
    pub fn with_cookie(mut self, name: impl Into<String>) -> JwtAuth {
        self.sources.cookie = Some(name.into());
        self
    }

    /// Accepts the token in a query parameter as well. Proxies usually log URLs, and thus the token.
    #[must_use]
    pub fn with_query(mut self, key: impl Into<String>) -> JwtAuth {
        self.sources.query = Some(key.into());
        self
    }

    fn check(&self, token: &str) -> Result<User, Denied> {
        let refuse = |e: jsonwebtoken::errors::Error| Denied::new(explain(e.kind()));
        let header = jsonwebtoken::decode_header(token).map_err(refuse)?;
        if header.crit.is_some() {
            // A critical header that is not understood makes a token invalid (RFC 7515 §4.1.11).
            return Err(Denied::new("the token has a critical header (\"crit\") that is not supported"));
        }
        let key = match &self.keys {
            Keyring::One(key) => key.clone(),
            Keyring::ById(keys) => keys.find(header.kid.as_deref())?,
        };
        let mut validation = self.validation.clone();
        validation.algorithms = vec![key.algorithm];
        let data = jsonwebtoken::decode::<Box<RawValue>>(token, &key.key, &validation).map_err(refuse)?;
        claims::user(&data.claims, &self.id_claim, &self.name_claim, validation.leeway)
    }
}

impl Authenticate for JwtAuth {
    async fn on_upgrade(&self, request: &Parts) -> Result<Admission, AuthRefusal> {
        let Some(found) = self.sources.find(request) else {
            let looked_in = &self.sources;
            if !self.is_required {
                tracing::debug!(%looked_in, "no token in the request; the client is anonymous");
                return Ok(Admission::anonymous());
            }
            tracing::debug!(%looked_in, "no token in the request; the client has to send one over the connection");
            return Ok(Admission::pending_auth());
        };
        match self.check(found.token) {
            Ok(user) => Ok(match found.protocol {
                Some(protocol) => Admission::user(user).with_protocol(protocol),
                None => Admission::user(user),
            }),
            Err(denied) => Err(AuthRefusal::unauthorized(denied.into_reason())
                .with_challenge(HeaderValue::from_static("Bearer error=\"invalid_token\""))),
        }
    }

    async fn on_token(&self, token: &str) -> Result<User, Denied> {
        self.check(token)
    }
}

/// The reason for the client. It never contains the token.
fn explain(kind: &ErrorKind) -> Cow<'static, str> {
    match kind {
        ErrorKind::ExpiredSignature => "the token has expired; get a new one".into(),
        ErrorKind::ImmatureSignature => "the token is not valid yet".into(),
        ErrorKind::InvalidSignature => "the token's signature is wrong".into(),
        ErrorKind::InvalidIssuer => "the token is from another issuer".into(),
        ErrorKind::InvalidAudience => "the token is for another audience".into(),
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
            "the token is signed with another algorithm".into()
        }
        ErrorKind::MissingRequiredClaim(claim) => format!("the token lacks the claim \"{claim}\"").into(),
        _ => "the token is not valid".into(),
    }
}

/// Keys are not shown.
impl fmt::Debug for JwtAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtAuth")
            .field("keys", &self.keys)
            .field("issuer", &self.validation.iss)
            .field("audience", &self.validation.aud)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Keyring::One(key) => write!(f, "{:?}", key.algorithm),
            Keyring::ById(keys) => keys.fmt(f),
        }
    }
}
