//! Chat rooms in an axum app, with routes that list the rooms and send to them.
//!
//! `cargo run --example axum` (`PORT=8080` for another port), open the address that it prints in two tabs, and in a
//! terminal:
//!
//! ```sh
//! curl http://127.0.0.1:3000/rooms
//! curl -d 'We close in five minutes.' http://127.0.0.1:3000/rooms/lobby/notice
//! ```

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Request, State};
use axum::http::{StatusCode, header::CONTENT_TYPE};
use axum::middleware::{Next, from_fn};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::ctrl_c;
#[cfg(unix)]
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tower_chat_rooms::{ChatRooms, PeerAddr, RoomEvent, SendError};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Only this application may send a `notice`.
    let rooms = ChatRooms::builder().host_events(["notice"]).events(log).build()?;

    // A service on its own route stays reachable when routers are nested or merged. A layer, as in
    // `.layer(rooms.layer("/chat"))`, would not: it has to be called on the outermost router, after all routes.
    let app = Router::new()
        .route("/", get(Html(PAGE)))
        .route("/rooms", get(list))
        .route("/rooms/{id}/notice", post(notice).layer(DefaultBodyLimit::max(4096)))
        .route_service("/chat", rooms.service())
        .layer(from_fn(peer_addr))
        .with_state(rooms.clone());

    let listener = listen()?;
    println!("open http://{} in two tabs; ctrl-c ends it", listener.local_addr()?);

    // `axum::serve` waits for a request's head without a time limit: put a proxy in front of it, or serve the app as
    // the example `hyper` does.
    let (stop, stopping) = oneshot::channel::<()>();
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let server = axum::serve(listener, app).with_graceful_shutdown(async { drop(stopping.await) });
    let server = tokio::spawn(server.into_future());

    stopped().await?;
    println!("draining {} chat connections", rooms.stats().connections);
    // `shutdown` ends the WebSockets, axum the other connections, which may never end by themselves.
    drop(stop);
    let (_, ended) = tokio::join!(rooms.shutdown(), timeout(Duration::from_secs(1), server));
    if let Ok(ended) = ended {
        ended??;
    }
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

/// Passes the client's address on to the chat rooms. Behind a proxy, also set `trusted_proxies`.
async fn peer_addr(ConnectInfo(peer): ConnectInfo<SocketAddr>, mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(PeerAddr(peer));
    next.run(request).await
}

fn log(event: RoomEvent<'_>) {
    match event {
        RoomEvent::Entered(e) => {
            let from = e.peer.map(|peer| format!(" from {peer}")).unwrap_or_default();
            println!("{}{from} entered {}: {} online", e.name, e.room, e.online);
        }
        RoomEvent::Left(e) => println!("{} left {} ({}): {} online", e.name, e.room, e.reason, e.online),
        _ => {}
    }
}

async fn list(State(rooms): State<ChatRooms>) -> impl IntoResponse {
    let list = rooms.rooms().iter().map(|r| json!({"id": r.id.as_str(), "online": r.online})).collect();
    ([(CONTENT_TYPE, "application/json")], Value::Array(list).to_string())
}

/// Sends a notice to a room. In production, allow this only for administrators. The limits of the chat rooms apply only
/// to clients, so this route has its own limit.
async fn notice(
    State(rooms): State<ChatRooms>,
    Path(room): Path<String>,
    text: String,
) -> Result<StatusCode, (StatusCode, String)> {
    match rooms.send(&room, &json!({"event": "notice", "message": text})) {
        Ok(_) => Ok(StatusCode::NO_CONTENT),
        Err(e @ SendError::NoSuchRoom) => Err((StatusCode::NOT_FOUND, format!("{e}\n"))),
        Err(e) => Err((StatusCode::SERVICE_UNAVAILABLE, format!("{e}\n"))),
    }
}

/// The page shows messages through `textContent`, so that they are never interpreted as markup.
const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>chat rooms on axum</title>
<form id="enter"><input placeholder="name" required> <input value="lobby"> <button>enter</button></form>
<form id="say" hidden><input placeholder="message" required> <button>send</button></form>
<p id="count"></p><pre id="log"></pre>
<script>
  const $ = id => document.getElementById(id);
  const line = text => $("log").textContent += text + "\n";
  $("enter").onsubmit = submitted => {
    submitted.preventDefault();
    const [name, room] = submitted.target;
    const ws = new WebSocket(location.origin.replace("http", "ws") + "/chat");
    const send = (event, message, more) => ws.send(JSON.stringify({event, message, ...more}));
    const open = is => { $("say").hidden = !is; $("enter").hidden = is; };
    ws.onopen = () => { open(true); send("enter", name.value, {roomId: room.value}); };
    ws.onclose = e => { open(false); line(`closed: ${e.code} ${e.reason}`); };
    ws.onmessage = ({data}) => {
      const {event, name = "the host", message, num} = JSON.parse(data);
      if (num !== undefined) $("count").textContent = num + " online";
      if (event === "heartbeat") return send("heartbeat", "pong");
      line(["message", "notice", "error"].includes(event) ? `${name}: ${message}` : `[${event}] ${name}`);
    };
    $("say").onsubmit = e => { e.preventDefault(); send("message", e.target[0].value); e.target.reset(); };
  };
</script>"#;
