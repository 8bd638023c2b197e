//! An upgrade request, from its check to the connection.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode, Version};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;

use crate::admission::{Action, Permit};
use crate::connection::{Opening, refuse, serve};
use crate::hooks::auth::{Admission, AuthRefusal};
use crate::hooks::guard::{self, NoAnswer};
use crate::http::body::ResponseBody;
use crate::http::edge::Edge;
use crate::http::handshake::Accept;
use crate::http::refusal::{Refusal, RefusalKind};
use crate::protocol::subprotocol::Subprotocol;
use crate::socket::Transport;
use crate::stats::Hook;

/// Largest single write over HTTP/2.
const MAX_HTTP2_WRITE: usize = 16 * 1024;

/// A well-formed upgrade request that is not answered yet.
pub(crate) struct Upgrade {
    edge: Arc<Edge>,
    permit: Permit,
    peer: Option<SocketAddr>,
    parts: Parts,
    accept: Accept,
    on_upgrade: OnUpgrade,
    /// Why the auth hook refused a `chat-rooms.v1` client. It is let in only to be told so, because a browser hides
    /// the HTTP status from the page.
    not_authenticated: Option<String>,
}

impl Upgrade {
    /// Checks the request and takes a permit for its connection.
    pub(crate) fn begin(edge: Arc<Edge>, mut parts: Parts) -> Result<Upgrade, Refusal> {
        let accept = edge.verify(&parts)?;
        let peer = edge.client_address(&mut parts);
        let permit = edge.engine.admission.admit(peer.map(|peer| peer.ip()))?;
        let on_upgrade = edge.take_upgrade(&mut parts)?;
        Ok(Upgrade { edge, permit, peer, parts, accept, on_upgrade, not_authenticated: None })
    }

    pub(crate) fn needs_auth(&self) -> bool {
        self.edge.engine.auth().is_some()
    }

    /// Asks the auth hook.
    pub(crate) async fn authenticate(mut self) -> Result<(Upgrade, Admission), Refusal> {
        let engine = &self.edge.engine;
        let Some(auth) = engine.auth() else { return Ok((self, Admission::anonymous())) };
        let limit = engine.config().timeouts.hook_timeout;
        let answer = guard::answer(&engine.context.counters.hooks, Hook::OnUpgrade, limit, async {
            auth.on_upgrade(&self.parts).await
        });
        let refusal = match engine.admission.unless_closing(answer).await {
            Some(Ok(Ok(admission))) => return Ok((self, admission)),
            Some(Ok(Err(refusal))) => Refusal::by_auth(refusal),
            Some(Err(NoAnswer::TooLate)) => Refusal::new(RefusalKind::AuthFailed),
            Some(Err(NoAnswer::Panicked)) => Refusal::failed(AuthRefusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "authentication failed because of an error in the server",
            )),
            None => Refusal::new(RefusalKind::ShuttingDown),
        };
        refusal.count(engine);
        if refusal.kind() == RefusalKind::Auth {
            // The next attempt beyond the rate is refused before the hook is called.
            let _ = engine.admission.take(self.peer.map(|peer| peer.ip()), None, Action::FailedAuth);
        }
        if refusal.kind() == RefusalKind::Auth && self.accept.subprotocol() == Subprotocol::V1 {
            self.not_authenticated = Some(refusal.text().to_owned());
            return Ok((self, Admission::anonymous()));
        }
        Err(refusal.over(self.parts.version))
    }

    /// Answers with 101 or 200, and serves the connection once the answer has been sent.
    pub(crate) fn accept<B>(mut self, mut admission: Admission) -> Response<ResponseBody<B>> {
        if let Err(error) = self.edge.engine.admission.check_open() {
            let refusal = Refusal::from(error).over(self.parts.version);
            refusal.count(&self.edge.engine);
            return refusal.into_response();
        }
        self.accept.choose(admission.take_protocol());
        let subprotocol = self.accept.subprotocol();
        let Upgrade { edge, permit, peer, on_upgrade, accept, parts, not_authenticated } = self;
        // hyper's HTTP/2 accepts writes of any size, and keeps them in its own memory.
        let max_write = if parts.version == Version::HTTP_2 { MAX_HTTP2_WRITE } else { usize::MAX };
        // The headers keep hyper's read buffer alive.
        drop(parts);
        let engine = edge.engine.clone();
        engine.tasks.spawn(async move {
            let Some(upgraded) = edge.complete(on_upgrade).await else { return };
            let engine = &edge.engine;
            let opening = |first| Opening { permit, admission, peer, subprotocol, first, max_write };
            // The connection gets a task of its own, which is smaller than this one.
            let (io, first) = match plain_tcp(upgraded) {
                Ok((stream, first)) => (Transport::Tcp(stream), first),
                Err(upgraded) => (Transport::Other(Box::new(TokioIo::new(upgraded))), Bytes::new()),
            };
            match not_authenticated {
                Some(reason) => engine.tasks.spawn(refuse(engine.clone(), io, opening(first), reason)),
                None => engine.tasks.spawn(serve(engine.clone(), io, opening(first))),
            }
        });
        accept.into_response()
    }
}

/// Takes the TCP stream and the bytes read from it out of the upgraded connection, if hyper was given a TCP
/// stream itself.
///
/// Writes then go straight to the socket, and Nagle's algorithm, which delays small frames, can be turned off.
fn plain_tcp(upgraded: Upgraded) -> Result<(TcpStream, Bytes), Upgraded> {
    let (io, first) = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => (parts.io, parts.read_buf),
        Err(upgraded) => {
            let parts = auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded)?;
            (parts.io, parts.read_buf)
        }
    };
    let stream = io.into_inner();
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "could not set TCP_NODELAY");
    }
    limit_unsent(&stream);
    // Even an empty slice keeps hyper's whole buffer alive.
    let first = if first.is_empty() { Bytes::new() } else { Bytes::copy_from_slice(&first) };
    Ok((stream, first))
}

/// Bytes that the kernel may keep for a client before it sends them.
///
/// The server cannot see what waits in the kernel. A client on a slow line would seem dead behind megabytes of it,
/// and fast senders would not notice that they have to wait.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MAX_UNSENT: u32 = 64 * 1024;

#[cfg(any(target_os = "linux", target_os = "android"))]
fn limit_unsent(stream: &TcpStream) {
    if let Err(error) = socket2::SockRef::from(stream).set_tcp_notsent_lowat(MAX_UNSENT) {
        tracing::debug!(%error, "could not set TCP_NOTSENT_LOWAT");
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn limit_unsent(_: &TcpStream) {}
