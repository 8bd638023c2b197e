//! What all layers and services of one engine share.

use std::sync::Arc;

use http::request::Parts;

use crate::engine::engine::Engine;
use crate::hooks::user::PeerAddr;
use crate::service::handshake::{self, Accept};
use crate::service::origin::{self, Origins};
use crate::service::proxies::TrustedProxies;
use crate::service::refusal::{Refusal, RefusalKind};

pub(crate) struct Edge {
    pub(crate) engine: Arc<Engine>,
    pub(crate) origins: Origins,
    pub(crate) proxies: TrustedProxies,
}

impl Edge {
    /// Whether the request may become a connection, as far as its head tells.
    pub(crate) fn verify(&self, parts: &Parts) -> Result<Accept, Refusal> {
        let accept = handshake::verify(parts)?;
        if !self.origins.allow(parts) {
            let (origin, host) = (origin::shown(&parts.headers), handshake::authority(parts));
            if self.engine.counters.refused_origin.read() == 0 {
                tracing::warn!(origin, ?host, "a page was refused; if it is yours, allow it by `Origins`");
            } else {
                tracing::debug!(origin, ?host, "a page was refused");
            }
            return Err(RefusalKind::Origin.into());
        }
        Ok(accept)
    }

    /// The client's address in the place of that of the proxy between.
    pub(crate) fn find_client(&self, parts: &mut Parts) -> Option<PeerAddr> {
        let peer = parts.extensions.get::<PeerAddr>()?;
        let client = PeerAddr(self.proxies.client(peer.0, &parts.headers));
        if client != *peer {
            parts.extensions.insert(client);
        }
        Some(client)
    }
}
