//! JSON Web Tokens as the auth hook (feature `jwt`).

mod auth;
mod claims;
mod key;
mod keys;
mod place;
mod provider;

pub use crate::hooks::jwt::auth::JwtAuth;
pub use crate::hooks::jwt::claims::Claims;
pub use crate::hooks::jwt::key::{JwtAlgorithm, JwtConfigError};
pub use crate::hooks::jwt::keys::JwtKeys;
