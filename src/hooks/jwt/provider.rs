//! Whether jsonwebtoken has a crypto provider.
//!
//! jsonwebtoken uses the provider that the host has installed, or else the one of its crate features, if exactly one
//! of them is enabled. Otherwise it panics on first use, and there is no way to ask it beforehand.

use std::any::TypeId;
use std::sync::OnceLock;

use jsonwebtoken::crypto::{CryptoProvider, KeyUtils};
use jsonwebtoken::errors::ErrorKind;

/// Stands for jsonwebtoken's module of this name if its feature is disabled.
#[allow(dead_code, reason = "with the feature, jsonwebtoken's module is used")]
mod rust_crypto {
    pub(super) static DEFAULT_PROVIDER: () = ();
}

/// Stands for jsonwebtoken's module of this name if its feature is disabled.
#[allow(dead_code, reason = "with the feature, jsonwebtoken's module is used")]
mod aws_lc {
    pub(super) static DEFAULT_PROVIDER: () = ();
}

/// Fails where jsonwebtoken would panic.
static NO_PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
    verifier_factory: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
    key_utils: KeyUtils::new_unimplemented(),
};

/// Returns whether jsonwebtoken can be used. After the first call, the host can no longer install a provider, just as
/// after the first use of jsonwebtoken.
pub(super) fn is_active() -> bool {
    static IS_ACTIVE: OnceLock<bool> = OnceLock::new();
    // Installing fails if there is a provider.
    *IS_ACTIVE.get_or_init(|| features() == 1 || NO_PROVIDER.install_default().is_err())
}

/// The number of jsonwebtoken's features that have a provider.
fn features() -> usize {
    // jsonwebtoken's modules shadow the ones above, if they exist.
    #[allow(
        clippy::wildcard_imports,
        unused_imports,
        reason = "a name that may not exist cannot be imported"
    )]
    use jsonwebtoken::crypto::*;
    [is_provider(&rust_crypto::DEFAULT_PROVIDER), is_provider(&aws_lc::DEFAULT_PROVIDER)]
        .into_iter()
        .filter(|is_provider| *is_provider)
        .count()
}

fn is_provider<T: 'static>(_: &T) -> bool {
    TypeId::of::<T>() == TypeId::of::<CryptoProvider>()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These tests are compiled with the feature `rust_crypto`.
    #[test]
    fn the_feature_is_found() {
        assert_eq!(features(), 1);
        assert!(is_active());
    }
}
