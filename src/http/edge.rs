//! What all layers and services of one engine share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::request::Parts;
use hyper::upgrade::{OnUpgrade, Upgraded};

use crate::engine::Engine;
use crate::hooks::user::PeerAddr;
use crate::http::handshake::{self, Accept};
use crate::http::origin::{self, Origins};
use crate::http::proxies::TrustedProxies;
use crate::http::refusal::{Refusal, RefusalKind};

pub(crate) struct Edge {
    pub(crate) engine: Arc<Engine>,
    gate: Arc<Gate>,
}

/// The part of the edge that does not depend on the engine.
pub(crate) struct Gate {
    origins: Origins,
    proxies: TrustedProxies,
    reported: Reported,
}

impl Gate {
    pub(crate) fn new(origins: Origins, proxies: TrustedProxies) -> Gate {
        Gate { origins, proxies, reported: Reported::default() }
    }
}

/// Which mistakes of the host have been logged. Each is logged once, because repeating it with every request would
/// flood the log.
#[derive(Default)]
struct Reported {
    missing_peer_addr: Once,
    missing_upgrades: Once,
    foreign_origin: Once,
}

#[derive(Default)]
struct Once(AtomicBool);

impl Once {
    /// Returns `true` on the first call.
    fn is_first(&self) -> bool {
        !self.0.load(Ordering::Relaxed) && !self.0.swap(true, Ordering::Relaxed)
    }
}

impl Edge {
    pub(crate) fn new(engine: Arc<Engine>, gate: Arc<Gate>) -> Edge {
        Edge { engine, gate }
    }

    /// Checks whether the request's head allows an upgrade.
    pub(crate) fn verify(&self, parts: &Parts) -> Result<Accept, Refusal> {
        let accept = handshake::verify(parts)?;
        if !self.gate.origins.allow(parts) {
            let (origin, host) = (origin::for_log(&parts.headers), handshake::authority(parts));
            if self.gate.reported.foreign_origin.is_first() {
                tracing::warn!(
                    origin,
                    ?host,
                    "refused a page whose origin is not allowed; if it is yours, allow it with \
                     `ChatRoomsBuilder::origins`"
                );
            } else {
                tracing::debug!(origin, ?host, "refused a page whose origin is not allowed");
            }
            return Err(RefusalKind::Origin.into());
        }
        Ok(accept)
    }

    /// Returns the client's address, and replaces a trusted proxy's [`PeerAddr`] with it.
    pub(crate) fn client_address(&self, parts: &mut Parts) -> Option<SocketAddr> {
        let Some(PeerAddr(peer)) = parts.extensions.get().copied() else {
            self.report_missing_peer_addr();
            return None;
        };
        let client = self.gate.proxies.client(peer, &parts.headers);
        if client != peer {
            parts.extensions.insert(PeerAddr(client));
        }
        Some(client)
    }

    fn report_missing_peer_addr(&self) {
        let is_limited = self.engine.config().limits.max_connections_per_ip < usize::MAX;
        if (is_limited || !self.gate.proxies.is_empty()) && self.gate.reported.missing_peer_addr.is_first() {
            tracing::warn!(
                "a request has no `PeerAddr` extension, so `Limits::max_connections_per_ip`, the \
                 rates per address and `ChatRoomsBuilder::trusted_proxies` have no effect; insert it where you accept connections, or \
                 set `max_connections_per_ip` to `usize::MAX`"
            );
        }
    }

    /// Waits until the upgrade has completed.
    pub(crate) async fn complete(&self, on_upgrade: OnUpgrade) -> Option<Upgraded> {
        let upgraded = tokio::time::timeout(self.engine.config().timeouts.enter_timeout, on_upgrade);
        match self.engine.admission.unless_closing(upgraded).await? {
            Ok(Ok(upgraded)) => return Some(upgraded),
            // hyper has given the connection back to the host.
            Ok(Err(error)) if error.is_user() => {
                if self.gate.reported.missing_upgrades.is_first() {
                    tracing::error!(
                        "a connection was accepted, but the server does not support upgrades: serve it with \
                         `with_upgrades()` (hyper) or `serve_connection_with_upgrades` (hyper-util)"
                    );
                } else {
                    tracing::debug!("the server does not support upgrades");
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, "the connection ended before its upgrade completed"),
            Err(_) => tracing::debug!("the upgrade did not complete within the enter timeout"),
        }
        None
    }
}
