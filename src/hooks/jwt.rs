//! JSON Web Tokens as the auth hook (feature `jwt`).

use std::borrow::Cow;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, COOKIE, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use http::request::Parts;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::hooks::auth::{Admission, AuthRefusal, Authenticate};
use crate::hooks::user::{Denied, User};
use crate::ids::Name;

/// Authenticates by JSON Web Tokens (RFC 7519).
///
/// The token is looked for in the upgrade request: in `Authorization: Bearer`, in a
/// `Sec-WebSocket-Protocol` entry `bearer.TOKEN`, and, where configured, in a cookie and in the
/// query. A token that is found must be good, or the upgrade is refused with 401; if there is
/// none, the client has to send one in band with `{"event":"auth","message":TOKEN}`.
///
/// The token must not have expired (`exp` is required), must be valid already where it says so
/// (`nbf`), and names the user by `sub`. A `name` claim becomes his name in every room. All
/// claims are attached to the [`User`] as [`Claims`]. A token is checked when it comes; a
/// connection outlives its token's expiry.
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
/// **The crypto is the host's choice**: depend on `jsonwebtoken` with exactly one of its
/// features `rust_crypto` and `aws_lc_rs`, or call its `CryptoProvider::install_default` before
/// the constructors here. They check it, so that no user is the first to find out.
#[derive(Clone)]
pub struct JwtAuth {
    key: Arc<DecodingKey>,
    validation: Validation,
    id_claim: Cow<'static, str>,
    name_claim: Cow<'static, str>,
    cookie: Option<String>,
    query: Option<String>,
}

/// The signature algorithms (RFC 7518 §3.1, RFC 8037) that take a key from PEM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum JwtAlgorithm {
    /// RSA PKCS#1 v1.5 with SHA-256.
    Rs256,
    /// RSA PKCS#1 v1.5 with SHA-384.
    Rs384,
    /// RSA PKCS#1 v1.5 with SHA-512.
    Rs512,
    /// RSA PSS with SHA-256.
    Ps256,
    /// RSA PSS with SHA-384.
    Ps384,
    /// RSA PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

/// A [`JwtAuth`] can't work as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtConfigError {
    text: String,
}

/// All claims of a user's token.
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
    /// The claims as a type of the host's.
    ///
    /// # Errors
    /// If they don't have that type's shape.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Box<dyn std::error::Error + Send + Sync>> {
        Ok(serde_json::from_str(&self.0)?)
    }
}

/// Claims may be private, so they are not shown.
impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claims(..)")
    }
}

impl JwtAuth {
    /// HMAC with SHA-256 and a shared secret of at least 32 bytes.
    ///
    /// # Errors
    /// If the secret is shorter than the hash (RFC 7518 §3.2), or no crypto provider is active.
    pub fn hs256(secret: impl AsRef<[u8]>) -> Result<JwtAuth, JwtConfigError> {
        JwtAuth::hmac(Algorithm::HS256, secret.as_ref(), 32)
    }

    /// HMAC with SHA-384 and a shared secret of at least 48 bytes.
    ///
    /// # Errors
    /// As for [`JwtAuth::hs256`].
    pub fn hs384(secret: impl AsRef<[u8]>) -> Result<JwtAuth, JwtConfigError> {
        JwtAuth::hmac(Algorithm::HS384, secret.as_ref(), 48)
    }

    /// HMAC with SHA-512 and a shared secret of at least 64 bytes.
    ///
    /// # Errors
    /// As for [`JwtAuth::hs256`].
    pub fn hs512(secret: impl AsRef<[u8]>) -> Result<JwtAuth, JwtConfigError> {
        JwtAuth::hmac(Algorithm::HS512, secret.as_ref(), 64)
    }

    /// A public key in PEM.
    ///
    /// # Errors
    /// If the PEM holds no key for this algorithm, or no crypto provider is active.
    pub fn from_pem(algorithm: JwtAlgorithm, pem: impl AsRef<[u8]>) -> Result<JwtAuth, JwtConfigError> {
        use JwtAlgorithm::*;
        let pem = pem.as_ref();
        let (parsed, algorithm) = match algorithm {
            Rs256 => (DecodingKey::from_rsa_pem(pem), Algorithm::RS256),
            Rs384 => (DecodingKey::from_rsa_pem(pem), Algorithm::RS384),
            Rs512 => (DecodingKey::from_rsa_pem(pem), Algorithm::RS512),
            Ps256 => (DecodingKey::from_rsa_pem(pem), Algorithm::PS256),
            Ps384 => (DecodingKey::from_rsa_pem(pem), Algorithm::PS384),
            Ps512 => (DecodingKey::from_rsa_pem(pem), Algorithm::PS512),
            Es256 => (DecodingKey::from_ec_pem(pem), Algorithm::ES256),
            Es384 => (DecodingKey::from_ec_pem(pem), Algorithm::ES384),
            EdDsa => (DecodingKey::from_ed_pem(pem), Algorithm::EdDSA),
        };
        let key = parsed.map_err(|e| {
            JwtConfigError::new(format!(
                "the PEM holds no public key for {algorithm:?}: {e}; give a public key"
            ))
        })?;
        JwtAuth::new(algorithm, key)
    }

    fn hmac(algorithm: Algorithm, secret: &[u8], min: usize) -> Result<JwtAuth, JwtConfigError> {
        if secret.len() < min {
            return Err(JwtConfigError::new(format!(
                "the secret for {algorithm:?} has {} bytes and needs at least {min} bytes (RFC 7518 §3.2): \
                 make one with `openssl rand -base64 {min}`",
                secret.len()
            )));
        }
        JwtAuth::new(algorithm, DecodingKey::from_secret(secret))
    }

    fn new(algorithm: Algorithm, key: DecodingKey) -> Result<JwtAuth, JwtConfigError> {
        // jsonwebtoken panics at its first verification where no provider is active.
        let tried =
            catch_unwind(AssertUnwindSafe(|| jsonwebtoken::crypto::verify("AAAA", b"x", &key, algorithm)));
        match tried {
            Ok(Ok(_)) => {}
            Ok(Err(e)) => {
                return Err(JwtConfigError::new(format!("the key does not work with {algorithm:?}: {e}")));
            }
            Err(_) => {
                return Err(JwtConfigError::new(
                    "jsonwebtoken has no crypto provider: depend on it with exactly one of the features \
                     `rust_crypto` and `aws_lc_rs`, or call CryptoProvider::install_default() first",
                ));
            }
        }
        let mut validation = Validation::new(algorithm);
        validation.validate_nbf = true;
        Ok(JwtAuth {
            key: Arc::new(key),
            validation,
            id_claim: "sub".into(),
            name_claim: "name".into(),
            cookie: None,
            query: None,
        })
    }

    /// The token must come from this issuer (`iss`).
    #[must_use]
    pub fn with_issuer(mut self, issuer: impl Into<String>) -> JwtAuth {
        self.validation.set_issuer(&[issuer.into()]);
        self.add_required("iss")
    }

    /// The token must be meant for this audience (`aud`). Without it, a token that names an
    /// audience is refused (RFC 7519 §4.1.3).
    #[must_use]
    pub fn with_audience(mut self, audience: impl Into<String>) -> JwtAuth {
        self.validation.set_audience(&[audience.into()]);
        self.add_required("aud")
    }

    /// How far clocks may be apart, for `exp` and `nbf`. 60 s by default, at most a day.
    #[must_use]
    pub fn with_leeway(mut self, leeway: Duration) -> JwtAuth {
        self.validation.leeway = leeway.as_secs().min(24 * 60 * 60);
        self
    }

    /// A registered claim that must be there as well: `exp`, `nbf`, `aud`, `iss` or `sub`.
    #[must_use]
    pub fn add_required(mut self, claim: &str) -> JwtAuth {
        self.validation.required_spec_claims.insert(claim.into());
        self
    }

    /// Takes tokens that never expire, too. `exp` is still checked where it is there.
    #[must_use]
    pub fn with_optional_expiry(mut self) -> JwtAuth {
        self.validation.required_spec_claims.remove("exp");
        self
    }

    /// The claim that becomes the [`User`]'s id; `sub` by default. It must be there, as a
    /// string or a number.
    #[must_use]
    pub fn with_id_claim(mut self, claim: impl Into<String>) -> JwtAuth {
        self.id_claim = claim.into().into();
        self
    }

    /// The claim that becomes the user's name in every room; `name` by default. Where a token
    /// has none, the client chooses.
    #[must_use]
    pub fn with_name_claim(mut self, claim: impl Into<String>) -> JwtAuth {
        self.name_claim = claim.into().into();
        self
    }

    /// Looks for the token in this cookie, too. Browsers send cookies from any page; therefore pages of
    /// other origins may not connect, unless [`Origins`](crate::Origins) lets them.
    #[must_use]
    pub fn with_cookie(mut self, name: impl Into<String>) -> JwtAuth {
        self.cookie = Some(name.into());
        self
    }

    /// Looks for the token under this key of the query, too. Beware that proxies log URLs.
    #[must_use]
    pub fn with_query(mut self, key: impl Into<String>) -> JwtAuth {
        self.query = Some(key.into());
        self
    }

    fn check(&self, token: &str) -> Result<User, Denied> {
        let data = jsonwebtoken::decode::<Box<RawValue>>(token, &self.key, &self.validation)
            .map_err(|e| Denied::new(explain(e.kind())))?;
        let claims: Map<String, Value> = serde_json::from_str(data.claims.get())
            .map_err(|_| Denied::new("the token's claims are not an object"))?;
        let text = |claim: &str| match claims.get(claim) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(n)) => Some(n.to_string()),
            _ => None,
        };
        let id = text(&self.id_claim)
            .ok_or_else(|| Denied::new(format!("the token lacks the claim \"{}\"", self.id_claim)))?;
        let user = User::new(id).with(Claims(data.claims.get().into()));
        Ok(match text(&self.name_claim) {
            // With such a name he could enter no room, whatever he does.
            Some(name) if Name::parse(&name, usize::MAX).is_err() => {
                return Err(Denied::new(format!("the token's \"{}\" is no name", self.name_claim)));
            }
            Some(name) => user.with_name(name),
            None => user,
        })
    }

    fn find<'a>(&self, request: &'a Parts) -> Option<Found<'a>> {
        if let Some(token) = request.headers.get(AUTHORIZATION).and_then(bearer) {
            return Some(Found { token, protocol: None });
        }
        for offers in request.headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
            for offer in offers.to_str().unwrap_or_default().split(',').map(str::trim) {
                if let Some(token) = offer.strip_prefix("bearer.") {
                    return Some(Found { token, protocol: HeaderValue::from_str(offer).ok() });
                }
            }
        }
        let cookie = self.cookie.as_deref().and_then(|name| {
            let all = request.headers.get_all(COOKIE).into_iter().filter_map(|v| v.to_str().ok());
            pick(all.flat_map(|v| v.split(';')), name).map(|v| v.trim_matches('"'))
        });
        let query = || {
            let key = self.query.as_deref()?;
            pick(request.uri.query()?.split('&'), key)
        };
        // A cookie that was emptied is no token.
        let found = cookie.filter(|t| !t.is_empty()).or_else(|| query().filter(|t| !t.is_empty()));
        found.map(|token| Found { token, protocol: None })
    }
}

/// A token in an upgrade request.
struct Found<'a> {
    token: &'a str,
    /// The subprotocol that held it, which has to be chosen if no other is.
    protocol: Option<HeaderValue>,
}

impl Authenticate for JwtAuth {
    async fn at_upgrade(&self, request: &Parts) -> Result<Admission, AuthRefusal> {
        let Some(found) = self.find(request) else { return Ok(Admission::auth_first()) };
        match self.check(found.token) {
            Ok(user) => Ok(match found.protocol {
                Some(protocol) => Admission::user(user).with_protocol(protocol),
                None => Admission::user(user),
            }),
            Err(denied) => Err(AuthRefusal::unauthorized(denied.into_reason())
                .with_challenge(HeaderValue::from_static("Bearer error=\"invalid_token\""))),
        }
    }

    async fn in_band(&self, token: &str) -> Result<User, Denied> {
        self.check(token)
    }
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn pick<'a>(pairs: impl Iterator<Item = &'a str>, name: &str) -> Option<&'a str> {
    pairs.filter_map(|p| p.trim().split_once('=')).find(|(k, _)| *k == name).map(|(_, v)| v)
}

/// What a client can do about it. Never the token itself.
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
        _ => "this is no valid token".into(),
    }
}

impl JwtConfigError {
    fn new(text: impl Into<String>) -> JwtConfigError {
        JwtConfigError { text: text.into() }
    }
}

impl fmt::Display for JwtConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for JwtConfigError {}

/// The key is not shown.
impl fmt::Debug for JwtAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtAuth")
            .field("algorithms", &self.validation.algorithms)
            .field("issuer", &self.validation.iss)
            .field("audience", &self.validation.aud)
            .finish_non_exhaustive()
    }
}
