//! The flags about tokens.

use std::error::Error;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tower_chat_rooms::{ChatRoomsBuilder, OnExpiry};

/// Which tokens are accepted. Without a key, anyone may connect.
#[derive(Args)]
#[command(next_help_heading = crate::options::TOKENS)]
pub(crate) struct Tokens {
    /// Require JSON Web Tokens signed with HS256 and this secret (at least 32 bytes)
    #[arg(long, env = "CHAT_JWT_SECRET", hide_env_values = true, group = "key")]
    pub(crate) jwt_secret: Option<String>,

    /// Require JSON Web Tokens that this public key verifies, a PEM file
    #[arg(long, env = "CHAT_JWT_PUBLIC_KEY", value_name = "FILE", group = "key", requires = "jwt_algorithm")]
    pub(crate) jwt_public_key: Option<PathBuf>,

    /// The public key's algorithm: RS256, ..., ES256, ES384 or EdDSA
    #[arg(long, env = "CHAT_JWT_ALGORITHM", requires = "jwt_public_key")]
    pub(crate) jwt_algorithm: Option<String>,

    /// Require JSON Web Tokens that a key of this JSON Web Key Set verifies, a file that is read
    /// again on SIGHUP
    #[arg(long, env = "CHAT_JWT_JWKS", value_name = "FILE", group = "key")]
    pub(crate) jwt_jwks: Option<PathBuf>,

    /// The issuer that tokens must come from
    #[arg(long, env = "CHAT_JWT_ISSUER", requires = "key")]
    pub(crate) jwt_issuer: Option<String>,

    /// The audience that tokens must be meant for
    #[arg(long, env = "CHAT_JWT_AUDIENCE", requires = "key")]
    pub(crate) jwt_audience: Option<String>,

    /// What happens to a connection whose token has expired
    #[arg(long, env = "CHAT_ON_EXPIRY", default_value = "close")]
    pub(crate) on_expiry: Expiry,
}

/// [`OnExpiry`] as a flag.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Expiry {
    /// It is closed
    Close,
    /// It leaves its room and may send a new token
    WaitForAuth,
}

impl From<Expiry> for OnExpiry {
    fn from(expiry: Expiry) -> OnExpiry {
        match expiry {
            Expiry::Close => OnExpiry::Close,
            Expiry::WaitForAuth => OnExpiry::WaitForAuth,
        }
    }
}

impl Tokens {
    /// Whether clients need a token.
    pub(crate) fn are_required(&self) -> bool {
        self.jwt_secret.is_some() || self.jwt_public_key.is_some() || self.jwt_jwks.is_some()
    }

    /// Adds the auth hook that the flags describe.
    pub(crate) fn apply(
        &self,
        builder: ChatRoomsBuilder,
    ) -> Result<ChatRoomsBuilder, Box<dyn Error + Send + Sync>> {
        if !self.are_required() {
            return Ok(builder);
        }
        #[cfg(feature = "jwt")]
        return Ok(builder.auth(crate::jwt::auth(self)?));
        #[cfg(not(feature = "jwt"))]
        Err("this build checks no tokens; build it with `--features jwt` for the flags --jwt-*".into())
    }
}
