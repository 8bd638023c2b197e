//! A key and its algorithm.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};

use crate::hooks::jwt::provider;

/// The minimum length of RSA keys (RFC 7518 §3.3).
const MIN_RSA_BITS: usize = 2048;

/// Signature algorithms with a public key (RFC 7518 §3.1, RFC 8037).
///
/// ```
/// use tower_chat_rooms::JwtAlgorithm;
///
/// assert_eq!("ES256".parse(), Ok(JwtAlgorithm::Es256));
/// assert!("none".parse::<JwtAlgorithm>().is_err());
/// ```
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

impl JwtAlgorithm {
    fn algorithm(self) -> Algorithm {
        match self {
            JwtAlgorithm::Rs256 => Algorithm::RS256,
            JwtAlgorithm::Rs384 => Algorithm::RS384,
            JwtAlgorithm::Rs512 => Algorithm::RS512,
            JwtAlgorithm::Ps256 => Algorithm::PS256,
            JwtAlgorithm::Ps384 => Algorithm::PS384,
            JwtAlgorithm::Ps512 => Algorithm::PS512,
            JwtAlgorithm::Es256 => Algorithm::ES256,
            JwtAlgorithm::Es384 => Algorithm::ES384,
            JwtAlgorithm::EdDsa => Algorithm::EdDSA,
        }
    }
}

/// Parses the name of the algorithm in RFC 7518, such as `ES256`.
impl FromStr for JwtAlgorithm {
    type Err = JwtConfigError;

    fn from_str(name: &str) -> Result<JwtAlgorithm, JwtConfigError> {
        Ok(match name {
            "RS256" => JwtAlgorithm::Rs256,
            "RS384" => JwtAlgorithm::Rs384,
            "RS512" => JwtAlgorithm::Rs512,
            "PS256" => JwtAlgorithm::Ps256,
            "PS384" => JwtAlgorithm::Ps384,
            "PS512" => JwtAlgorithm::Ps512,
            "ES256" => JwtAlgorithm::Es256,
            "ES384" => JwtAlgorithm::Es384,
            "EdDSA" => JwtAlgorithm::EdDsa,
            _ => {
                return Err(JwtConfigError::new(
                    "unknown algorithm; use RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA",
                ));
            }
        })
    }
}

/// A [`JwtAuth`](crate::JwtAuth) or [`JwtKeys`](crate::JwtKeys) cannot work as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtConfigError {
    text: String,
}

impl JwtConfigError {
    pub(super) fn new(text: impl Into<String>) -> JwtConfigError {
        JwtConfigError { text: text.into() }
    }
}

impl fmt::Display for JwtConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for JwtConfigError {}

/// A key that has been tried once with its algorithm. It is not used with any other.
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

impl Key {
    pub(super) fn from_secret(
        algorithm: Algorithm,
        secret: &[u8],
        min: usize,
    ) -> Result<Key, JwtConfigError> {
        if secret.len() < min {
            return Err(JwtConfigError::new(format!(
                "the secret for {algorithm:?} has {} bytes and needs at least {min} bytes (RFC 7518 §3.2); \
                 create one with `openssl rand -base64 {min}`",
                secret.len()
            )));
        }
        Key::new(algorithm, DecodingKey::from_secret(secret))
    }

    pub(super) fn from_pem(algorithm: JwtAlgorithm, pem: &[u8]) -> Result<Key, JwtConfigError> {
        let algorithm = algorithm.algorithm();
        let parsed = match algorithm.family() {
            AlgorithmFamily::Ec => DecodingKey::from_ec_pem(pem),
            AlgorithmFamily::Ed => DecodingKey::from_ed_pem(pem),
            _ => DecodingKey::from_rsa_pem(pem),
        };
        let key = parsed.map_err(|e| {
            JwtConfigError::new(format!(
                "the PEM holds no public key for {algorithm:?}: {e}; give a public key"
            ))
        })?;
        Key::new(algorithm, key)
    }

    /// `None` for a kind of key that is not supported. A set may contain such keys; they are ignored (RFC 7517 §5).
    pub(super) fn from_jwk(jwk: &Jwk) -> Option<Result<Key, JwtConfigError>> {
        let natural = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(ec) => match ec.curve {
                EllipticCurve::P256 => Algorithm::ES256,
                EllipticCurve::P384 => Algorithm::ES384,
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(okp) if okp.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
            _ => return None,
        };
        let algorithm = match jwk.common.key_algorithm {
            Some(named) => Algorithm::try_from(named).ok()?,
            None => natural,
        };
        let fits = algorithm == natural
            || (natural == Algorithm::RS256 && AlgorithmFamily::Rsa.algorithms().contains(&algorithm));
        if !fits {
            return Some(Err(JwtConfigError::new(format!(
                "its \"alg\" {algorithm:?} does not fit its type"
            ))));
        }
        Some(match DecodingKey::from_jwk(jwk) {
            Ok(key) => Key::new(algorithm, key),
            Err(_) => Err(JwtConfigError::new("its parameters are not valid base64url")),
        })
    }

    fn new(algorithm: Algorithm, key: DecodingKey) -> Result<Key, JwtConfigError> {
        let mismatch =
            |why: &str| Err(JwtConfigError::new(format!("the key does not work with {algorithm:?}: {why}")));
        // jsonwebtoken would truncate a longer key and panic on a shorter one.
        if key.family() == AlgorithmFamily::Ed && !key.try_get_as_bytes().is_ok_and(|bytes| bytes.len() == 32)
        {
            return mismatch("an Ed25519 key has 32 bytes");
        }
        let no_provider = || {
            Err(JwtConfigError::new(
                "jsonwebtoken has no crypto provider: depend on it with exactly one of the features \
                 `rust_crypto` and `aws_lc_rs`, or call CryptoProvider::install_default() first",
            ))
        };
        if !provider::is_active() {
            return no_provider();
        }
        // A provider may lack what jsonwebtoken needs; jsonwebtoken then panics.
        let tried = catch_unwind(AssertUnwindSafe(|| {
            let bits = rsa_bits(&key)?;
            jsonwebtoken::crypto::verify("AAAA", b"x", &key, algorithm)?;
            Ok::<_, jsonwebtoken::errors::Error>(bits)
        }));
        match tried {
            Ok(Ok(Some(bits))) if bits < MIN_RSA_BITS => {
                mismatch(&format!("it has {bits} bits and needs at least {MIN_RSA_BITS} (RFC 7518 §3.3)"))
            }
            Ok(Ok(_)) => Ok(Key { algorithm, key }),
            Ok(Err(e)) => mismatch(&e.to_string()),
            Err(_) => no_provider(),
        }
    }
}

/// The length of an RSA key's modulus in bits; `None` for other keys.
fn rsa_bits(key: &DecodingKey) -> Result<Option<usize>, jsonwebtoken::errors::Error> {
    if key.family() != AlgorithmFamily::Rsa {
        return Ok(None);
    }
    let parts = DecodingKey::from_jwk(&Jwk::from_decoding_key(key, None)?)?;
    let DecodingKeyKind::RsaModulusExponent { n, .. } = parts.kind() else { return Ok(None) };
    let n: Vec<u8> = n.iter().copied().skip_while(|byte| *byte == 0).collect();
    Ok(Some(n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize)))
}
