//! Chat rooms as a layer in front of your own service, on plain hyper: WebSocket handshakes at `/chat` become chat
//! connections, all other requests go to the service.
//!
//! `cargo run --example hyper` (`PORT=8080` for another port), then open the address that it prints in two tabs.
//! `curl http://127.0.0.1:3000/chat` shows that other requests reach the service.

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::ctrl_c;
#[cfg(unix)]
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tower::{ServiceBuilder, service_fn};
use tower_chat_rooms::{ChatRooms, PeerAddr};

/// Time for the head of a request, and between two pings of an HTTP/2 connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of the head of a request; hyper's default is 400 KiB.
const MAX_HEAD: usize = 32 * 1024;

/// Bytes that hyper keeps for a WebSocket over HTTP/2 whose client does not read; hyper's default is 400 KiB.
const MAX_SEND: usize = 64 * 1024;

/// HTTP connections of one address. The chat rooms have their own limit for WebSockets.
const MAX_PER_ADDRESS: usize = 256;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let rooms = ChatRooms::builder().build()?;
    let service = ServiceBuilder::new().layer(rooms.layer("/chat")).service(service_fn(site));
    let listener = listen()?;
    println!("open http://{} in two tabs; ctrl-c ends it", listener.local_addr()?);

    let mut http = Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD);
    // Pings end a connection whose client is gone; one that answers them may stay.
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HEAD_TIMEOUT)
        .max_send_buf_size(MAX_SEND)
        .enable_connect_protocol();
    let open = GracefulShutdown::new();
    let mut addresses: HashMap<IpAddr, Arc<()>> = HashMap::new();
    let mut stop = pin!(stopped());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            stopped = &mut stop => break stopped?,
        };
        let Ok((stream, peer)) = accepted else {
            // The client is gone again, or too many files are open and some will be closed.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        // Each connection holds a clone of its address's `Arc`.
        addresses.retain(|_, count| Arc::strong_count(count) > 1);
        let permit = addresses.entry(peer.ip()).or_default().clone();
        if Arc::strong_count(&permit) > MAX_PER_ADDRESS + 1 {
            continue;
        }
        let has_request = Arc::new(Notify::new());
        let first_request = has_request.clone();
        let service = ServiceBuilder::new()
            .map_request(move |mut request: Request<_>| {
                has_request.notify_one();
                request.extensions_mut().insert(PeerAddr(peer));
                request
            })
            .service(service.clone());
        // With `serve_connection`, clients would get a 101 and then the end of the connection.
        let connection = http
            .serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service))
            .into_owned();
        let connection = open.watch(connection);
        tokio::spawn(async move {
            // An upgrade to WebSocket ends the connection for hyper, and so releases the permit.
            let _permit = permit;
            let mut connection = pin!(connection);
            // hyper's own time limits start when it knows the HTTP version, which is never if the client is silent.
            let ended = tokio::select! {
                ended = &mut connection => ended,
                begun = timeout(HEAD_TIMEOUT, first_request.notified()) => match begun {
                    Ok(()) => connection.await,
                    Err(_) => return,
                },
            };
            if let Err(error) = ended {
                eprintln!("{peer}: {error}");
            }
        });
    }

    println!("draining {} chat connections", rooms.stats().connections);
    drop(listener);
    // `rooms` ends the WebSockets, `open` the other connections, which may never end by themselves.
    let _ = tokio::join!(rooms.shutdown(), timeout(Duration::from_secs(1), open.shutdown()));
    Ok(())
}

/// Waits for ctrl-c, or for SIGTERM, which systemd, Docker and Kubernetes send.
async fn stopped() -> io::Result<()> {
    #[cfg(unix)]
    {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            stopped = ctrl_c() => stopped,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    ctrl_c().await
}

/// `TcpListener::bind` would let only 128 clients wait to be accepted, too few for those that come back after a
/// restart.
fn listen() -> Result<TcpListener, Box<dyn Error>> {
    let port = std::env::var("PORT").map_or(Ok(3000), |port| port.parse())?;
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    let bound = socket.bind(SocketAddr::from(([127, 0, 0, 1], port)));
    bound.map_err(|e| format!("can't listen on port {port}: {e}; choose another one with PORT"))?;
    Ok(socket.listen(4096)?)
}

/// Stands for your application. Chat connections never reach it.
async fn site<B>(request: Request<B>) -> Result<Response<String>, Infallible> {
    let (status, kind, body) = match request.uri().path() {
        "/" => (StatusCode::OK, "text/html; charset=utf-8", PAGE),
        "/chat" => (StatusCode::UPGRADE_REQUIRED, "text/plain", "WebSocket only; the page is at /\n"),
        _ => (StatusCode::NOT_FOUND, "text/plain", "the page is at /\n"),
    };
    let mut response = Response::new(body.to_owned());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>chat rooms on hyper</title>
<form><input placeholder="message" autofocus required> <button>send</button></form><pre></pre>
<script>
  const form = document.querySelector("form"), log = document.querySelector("pre");
  const name = prompt("Your name?") || "guest";
  const ws = new WebSocket(location.origin.replace("http", "ws") + "/chat");
  const send = (event, message, more) => ws.send(JSON.stringify({event, message, ...more}));
  ws.onopen = () => send("enter", name, {roomId: "lobby"});
  ws.onclose = e => log.textContent += `closed: ${e.code} ${e.reason}\n`;
  ws.onmessage = ({data}) => {
    if (JSON.parse(data).event === "heartbeat") send("heartbeat", "pong");
    else log.textContent += data + "\n";
  };
  form.onsubmit = e => { e.preventDefault(); send("message", form[0].value); form.reset(); };
</script>"#;
