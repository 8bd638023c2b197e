//! The admin view, on an address of its own. Without a token, only this machine can reach it.

use std::convert::Infallible;
use std::net::IpAddr;
use std::slice;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::{Args, ValueEnum};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, WWW_AUTHENTICATE};
use http::uri::Authority;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use tower::Service;
use tower_chat_rooms::{AdminService, AssetBody, ChatRooms, Drain};

use crate::listen::{Listen, Listener, listen_on, no_systemd};
use crate::server::{HttpLimits, Server};

/// Connections of one address. Nobody needs more, not even a proxy.
const MAX_CONNECTIONS: usize = 64;

/// A shorter token could be guessed.
const MIN_TOKEN: usize = 16;

/// The flags about the admin view.
#[derive(Args)]
#[command(next_help_heading = crate::options::OPERATIONS)]
pub(crate) struct AdminOptions {
    /// Serve the admin view, a page that shows rooms, connections and users, on this address: `HOST:PORT` or `unix:PATH`;
    /// without --admin-token, it must be a unix socket or a loopback address, such as 127.0.0.1:3001
    #[arg(long, env = "CHAT_ADMIN_LISTEN", value_name = "ADDRESS", value_parser = no_systemd)]
    admin_listen: Option<Listen>,

    /// Require this token (at least 16 characters) for the admin view: as a bearer token, or as the password that
    /// browsers ask for, with any name
    #[arg(
        long,
        env = "CHAT_ADMIN_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN",
        requires = "admin_listen"
    )]
    admin_token: Option<String>,

    /// Actions that the admin view may perform [repeatable]
    #[arg(
        long,
        env = "CHAT_ADMIN_ALLOW",
        value_delimiter = ',',
        value_name = "ACTION",
        requires = "admin_listen"
    )]
    admin_allow: Vec<Allowed>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Allowed {
    /// Close connections
    Kick,
    /// Close rooms
    CloseRoom,
    /// Drain this node
    Drain,
}

type Answer = Response<Either<AssetBody, Full<Bytes>>>;

/// The admin view, not served yet.
pub(crate) struct Admin {
    listeners: Vec<Listener>,
    guard: Arc<Guard>,
    service: AdminService,
}

/// How the view is guarded. It has no `Debug`, which would show the token.
enum Guard {
    /// Programs on this machine can connect. Pages of other sites cannot: their requests name other hosts.
    Local,
    Token(String),
}

impl AdminOptions {
    /// Listens, if the admin view is enabled.
    pub(crate) async fn listen(
        &self,
        rooms: &ChatRooms,
        drain: Drain,
        socket_mode: u32,
    ) -> Result<Option<Admin>, String> {
        let Some(address) = &self.admin_listen else { return Ok(None) };
        let guard = match &self.admin_token {
            Some(token) if token.len() < MIN_TOKEN => {
                return Err(format!("--admin-token is too short; use at least {MIN_TOKEN} characters"));
            }
            // Others cannot be sent, or only by some browsers: for example a newline at the end of a file.
            Some(token) if !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                return Err("--admin-token may have only visible ASCII characters, and no spaces".into());
            }
            Some(token) => Guard::Token(token.clone()),
            None => Guard::Local,
        };
        let listeners = listen_on(slice::from_ref(address), socket_mode, "--admin-listen").await?;
        if matches!(guard, Guard::Local) && !listeners.iter().all(Listener::is_local) {
            return Err(format!(
                "--admin-listen {address} can be reached from other machines: also set --admin-token, or use a \
                 loopback address, such as 127.0.0.1:3001"
            ));
        }
        let mut view = rooms.admin();
        for action in &self.admin_allow {
            view = match action {
                Allowed::Kick => view.allow_kick(),
                Allowed::CloseRoom => view.allow_close_room(),
                Allowed::Drain => view.allow_drain(drain),
            };
        }
        Ok(Some(Admin { listeners, guard: Arc::new(guard), service: view.guarded_by_host() }))
    }
}

impl Admin {
    /// A line for each address: where the view is, and who can use it.
    pub(crate) fn describe(&self) -> impl Iterator<Item = String> {
        self.listeners.iter().map(|listener| {
            let who = match (&*self.guard, listener) {
                (Guard::Token(_), _) => "needs the token",
                (Guard::Local, Listener::Tcp(_)) => "anyone on this machine can use it",
                #[cfg(unix)]
                (Guard::Local, Listener::Unix { .. }) => "anyone who may write to the socket can use it",
            };
            format!("admin view on {} ({who})", listener.url("/"))
        })
    }

    /// Serves it until `end` completes.
    pub(crate) async fn serve_until<T>(self, limits: HttpLimits, end: impl Future<Output = T>) -> T {
        let limits = HttpLimits { max_sockets_per_address: MAX_CONNECTIONS, ..limits };
        let (guard, service) = (self.guard, self.service);
        let guarded = service_fn(move |request| answer(guard.clone(), service.clone(), request));
        let server = Server::new(self.listeners, guarded, &limits);
        let ended = server.run_until(end).await;
        server.stop().await;
        ended
    }
}

async fn answer(
    guard: Arc<Guard>,
    mut service: AdminService,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    match guard.refuse(request.headers()) {
        None => Ok(service.call(request).await?.map(Either::Left)),
        Some(refusal) => Ok(refusal.map(Either::Right)),
    }
}

impl Guard {
    /// The answer to a request that has no access to the view.
    fn refuse(&self, headers: &HeaderMap) -> Option<Response<Full<Bytes>>> {
        match self {
            Guard::Local if is_for_loopback(headers) => None,
            Guard::Local => Some(refusal(
                StatusCode::FORBIDDEN,
                "without a token, open the admin view by its address or as localhost\n",
            )),
            Guard::Token(token) if given_token(headers).is_some_and(|given| is_same(&given, token)) => None,
            Guard::Token(_) => {
                let mut response =
                    refusal(StatusCode::UNAUTHORIZED, "the admin view needs its token (--admin-token)\n");
                let challenge = HeaderValue::from_static("Basic realm=\"chat admin\"");
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
                Some(response)
            }
        }
    }
}

fn refusal(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Whether the request names this machine. A foreign page can make a name of its own resolve to a loopback address (DNS
/// rebinding), but its requests still carry that name.
fn is_for_loopback(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    host.is_some_and(|host| {
        let host = host.host().trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
    })
}

/// A bearer token, or the password of a browser.
fn given_token(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    if let Some(token) = value.strip_prefix("Bearer ") {
        return Some(token.to_owned());
    }
    let decoded = STANDARD.decode(value.strip_prefix("Basic ")?).ok()?;
    Some(str::from_utf8(&decoded).ok()?.split_once(':')?.1.to_owned())
}

/// Compares in a time that does not depend on where the first difference is.
fn is_same(given: &str, token: &str) -> bool {
    given.len() == token.len()
        && given.bytes().zip(token.bytes()).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}
