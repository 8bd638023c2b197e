//! What all layers and services of one engine share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use hyper::upgrade::{OnUpgrade, Upgraded};

use crate::engine::Engine;
use crate::hooks::user::PeerAddr;
use crate::http::handshake::{self, Accept};
use crate::http::origin::Origins;
use crate::http::path::MountPath;
use crate::http::proxies::TrustedProxies;
use crate::http::refusal::{Refusal, RefusalKind};
use crate::http::reports::Reports;

pub(crate) struct Edge {
    pub(crate) engine: Arc<Engine>,
    gate: Arc<Gate>,
}

/// The part of the edge that does not depend on the engine.
pub(crate) struct Gate {
    origins: Origins,
    proxies: TrustedProxies,
    reports: Reports,
}

impl Gate {
    pub(crate) fn new(origins: Origins, proxies: TrustedProxies) -> Gate {
        Gate { origins, proxies, reports: Reports::default() }
    }
}

impl Edge {
    pub(crate) fn new(engine: Arc<Engine>, gate: Arc<Gate>) -> Edge {
        Edge { engine, gate }
    }

    /// Checks whether the request's head allows an upgrade.
    pub(crate) fn verify(&self, parts: &Parts) -> Result<Accept, Refusal> {
        let verified = handshake::verify(parts).and_then(|accept| match self.gate.origins.allow(parts) {
            true => Ok(accept),
            false => Err(RefusalKind::Origin),
        });
        verified.map_err(|kind| self.refuse(kind, parts))
    }

    /// Takes the upgrade out of the request.
    pub(crate) fn take_upgrade(&self, parts: &mut Parts) -> Result<OnUpgrade, Refusal> {
        let on_upgrade = parts.extensions.remove();
        on_upgrade.ok_or_else(|| self.refuse(RefusalKind::NotUpgradable, parts))
    }

    fn refuse(&self, kind: RefusalKind, parts: &Parts) -> Refusal {
        self.gate.reports.refused(kind, parts, self.now());
        kind.into()
    }

    /// Reports that a layer passes on a handshake, if the layer's path looks like a mistake.
    pub(crate) fn report_passed(&self, path: &MountPath, seen: &str) {
        if path.is_never_seen() && path.ends_with(seen) {
            self.gate.reports.other_path(path, seen, self.now());
        }
    }

    fn now(&self) -> Duration {
        self.engine.context.clock.now()
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
        if is_limited || !self.gate.proxies.is_empty() {
            self.gate.reports.missing_peer_addr();
        }
    }

    /// Waits until the upgrade has completed.
    pub(crate) async fn complete(&self, on_upgrade: OnUpgrade) -> Option<Upgraded> {
        let upgraded = tokio::time::timeout(self.engine.config().timeouts.enter_timeout, on_upgrade);
        match self.engine.admission.unless_closing(upgraded).await? {
            Ok(Ok(upgraded)) => return Some(upgraded),
            // hyper has given the connection back to the host.
            Ok(Err(error)) if error.is_user() => {
                self.gate.reports.upgrade_not_served(self.now());
                tracing::debug!("connection closed: the server does not support upgrades");
            }
            Ok(Err(error)) => tracing::debug!(%error, "connection closed before its upgrade completed"),
            Err(_) => tracing::debug!(
                "connection closed: its upgrade did not complete within `Timeouts::enter_timeout`"
            ),
        }
        None
    }
}
