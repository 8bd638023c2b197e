//! The auth hook for JSON Web Tokens (feature `jwt`).

mod auth;
mod claims;
mod key;
mod keys;
mod provider;
mod token_source;

pub use crate::hooks::jwt::auth::JwtAuth;
pub use crate::hooks::jwt::claims::Claims;
pub use crate::hooks::jwt::key::{JwtAlgorithm, JwtConfigError};
pub use crate::hooks::jwt::keys::JwtKeys;
