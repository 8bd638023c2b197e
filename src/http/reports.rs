//! Log lines about mistakes in the configuration of the host or of a proxy, each with the fix. What any client can cause
//! again and again is logged once per kind and minute, with a count.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::request::Parts;

use crate::hooks::user::PeerAddr;
use crate::http::handshake;
use crate::http::origin;
use crate::http::path::MountPath;
use crate::http::refusal::RefusalKind;
use crate::log_limit::LogLimit;

#[derive(Debug, Default)]
pub(super) struct Reports {
    missing_peer_addr: AtomicBool,
    origin: LogLimit,
    http_version: LogLimit,
    upgrade_header: LogLimit,
    connection_header: LogLimit,
    not_upgradable: LogLimit,
    upgrade_not_served: LogLimit,
    other_path: LogLimit,
}

impl Reports {
    /// A handshake was refused because of its head.
    pub(super) fn refused(&self, kind: RefusalKind, parts: &Parts, now: Duration) {
        let (limit, fix) = match kind {
            RefusalKind::Origin => return self.refused_origin(parts, now),
            RefusalKind::NotUpgradable => return self.not_upgradable(now),
            RefusalKind::HttpVersion if parts.version < http::Version::HTTP_2 => (
                &self.http_version,
                "HTTP/1.0 has no upgrades; if the peer is your proxy, let it use HTTP/1.1 (nginx: \
                 `proxy_http_version 1.1;`)",
            ),
            RefusalKind::HttpVersion => (
                &self.http_version,
                "WebSocket over HTTP/2 needs the feature `http2`; without it, your server or proxy must not offer \
                 extended CONNECT",
            ),
            RefusalKind::UpgradeHeader => (
                &self.upgrade_header,
                "`Upgrade: websocket` is missing; if the peer is your proxy, let it pass on upgrades (nginx: \
                 `proxy_set_header Upgrade $http_upgrade;`)",
            ),
            RefusalKind::ConnectionHeader => (
                &self.connection_header,
                "`Connection: Upgrade` is missing; if the peer is your proxy, let it pass on upgrades (nginx: \
                 `proxy_set_header Connection \"upgrade\";`)",
            ),
            _ => return,
        };
        let Some(suppressed) = limit.take(now) else { return };
        let (peer, version) = (peer(parts), parts.version);
        tracing::warn!(peer, ?version, suppressed, "refused a WebSocket handshake: {fix}");
    }

    fn refused_origin(&self, parts: &Parts, now: Duration) {
        let (origin, host) = (origin::for_log(&parts.headers), handshake::authority(parts));
        let Some(suppressed) = self.origin.take(now) else {
            tracing::debug!(origin, ?host, "refused a page whose origin is not allowed");
            return;
        };
        tracing::warn!(
            origin,
            ?host,
            suppressed,
            "refused a page whose origin is not allowed; if it is yours, allow it with \
             `ChatRoomsBuilder::origins` (`--allow-origin` of the standalone server), or let your proxy pass on \
             `Host` unchanged"
        );
    }

    fn not_upgradable(&self, now: Duration) {
        let Some(suppressed) = self.not_upgradable.take(now) else { return };
        tracing::error!(
            suppressed,
            "refused a WebSocket handshake, because the server does not support upgrades, or a middleware has \
             removed the request's extensions: serve connections with `with_upgrades()` (hyper) or \
             `serve_connection_with_upgrades` (hyper-util)"
        );
    }

    /// hyper has given an accepted connection back to the host.
    pub(super) fn upgrade_not_served(&self, now: Duration) {
        let Some(suppressed) = self.upgrade_not_served.take(now) else { return };
        tracing::error!(
            suppressed,
            "a connection was accepted, but the server does not support upgrades: serve it with \
             `with_upgrades()` (hyper) or `serve_connection_with_upgrades` (hyper-util)"
        );
    }

    /// A layer has passed on a handshake for a path that is the end of its own, and has never seen its own.
    pub(super) fn other_path(&self, path: &MountPath, seen: &str, now: Duration) {
        let Some(suppressed) = self.other_path.take(now) else { return };
        tracing::error!(
            ?path,
            seen,
            suppressed,
            "a layer has not seen its path yet, only the end of it: inside a nested router, give the layer the path \
             without the router's prefix"
        );
    }

    /// A request has no [`PeerAddr`], which the settings need.
    pub(super) fn missing_peer_addr(&self) {
        if self.missing_peer_addr.load(Ordering::Relaxed)
            || self.missing_peer_addr.swap(true, Ordering::Relaxed)
        {
            return;
        }
        tracing::warn!(
            "a request has no `PeerAddr` extension, so `Limits::max_connections_per_ip`, the \
             rates per address and `ChatRoomsBuilder::trusted_proxies` have no effect; insert it before the request \
             reaches the chat rooms (in axum, with a layer that is added after theirs), or set `max_connections_per_ip` to `usize::MAX`"
        );
    }
}

fn peer(parts: &Parts) -> Option<String> {
    parts.extensions.get().map(|PeerAddr(peer)| peer.to_string())
}
