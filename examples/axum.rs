//! Chat rooms in an axum app, beside routes of its own that look into the rooms and speak there.
//!
//! `cargo run --example axum` (`PORT=8080` for another port), open the address that it prints in
//! two tabs, and from a terminal:
//!
//! ```sh
//! curl http://127.0.0.1:3000/rooms
//! curl -d 'We close in five minutes.' http://127.0.0.1:3000/rooms/lobby/notice
//! ```

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Request, State};
use axum::http::{StatusCode, header::CONTENT_TYPE};
use axum::middleware::{Next, from_fn};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tower_chat_rooms::{ChatRooms, PeerAddr, RoomEvent, SendError};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let rooms = ChatRooms::builder().events(log).build()?;

    // A service on a route of its own stays reachable however routers are nested and merged.
    // `.layer(rooms.layer("/chat"))` works through the router's fallback, which axum drops when
    // that router is nested, and replaces when another is merged into it or a fallback is set
    // later; `.route_layer` never gets there. To have the layer anyway, make it the last thing,
    // around the finished app.
    let app = Router::new()
        .route("/", get(Html(PAGE)))
        .route("/rooms", get(list))
        .route("/rooms/{id}/notice", post(notice).layer(DefaultBodyLimit::max(4096)))
        .route_service("/chat", rooms.service())
        .layer(from_fn(peer_addr))
        .with_state(rooms.clone());

    let port = std::env::var("PORT").unwrap_or_else(|_| "3000".into());
    let address = format!("127.0.0.1:{port}");
    let listener = TcpListener::bind(&address)
        .await
        .map_err(|e| format!("can't listen on {address}: {e}; choose another port with PORT"))?;
    println!("open http://{} in two tabs; ctrl-c ends it", listener.local_addr()?);

    let (stop, stopped) = oneshot::channel::<()>();
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let server = axum::serve(listener, app).with_graceful_shutdown(async { drop(stopped.await) });
    let server = tokio::spawn(server.into_future());

    tokio::signal::ctrl_c().await?;
    println!("draining {} chat connections", rooms.stats().connections);
    // First the chat, whose clients are told to come back in a few seconds; axum knows nothing of
    // them. Then axum, but not for ever: a client may never finish its request.
    rooms.shutdown().await;
    drop(stop);
    if let Ok(ended) = timeout(Duration::from_secs(5), server).await {
        ended??;
    }
    Ok(())
}

/// Tells the chat's hooks who is there, as they don't know axum's own type. Behind a proxy, take
/// the address from the header that the proxy sets.
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

/// The host speaks. In earnest this would be for admins only. The chat's limits bind its clients,
/// not the host; so the length is bounded here.
async fn notice(
    State(rooms): State<ChatRooms>,
    Path(room): Path<String>,
    text: String,
) -> Result<StatusCode, (StatusCode, String)> {
    match rooms.send(&room, &json!({"event": "notice", "message": text})) {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(e @ SendError::NoSuchRoom) => Err((StatusCode::NOT_FOUND, format!("{e}\n"))),
        Err(e) => Err((StatusCode::SERVICE_UNAVAILABLE, format!("{e}\n"))),
    }
}

/// What others say goes in by `textContent` alone, so that it is never taken for markup.
const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>chat rooms on axum</title>
<form id="door"><input placeholder="name" required> <input value="lobby"> <button>enter</button></form>
<form id="say" hidden><input placeholder="message" required> <button>send</button></form>
<p id="count"></p><pre id="log"></pre>
<script>
  const $ = id => document.getElementById(id);
  const line = text => $("log").textContent += text + "\n";
  $("door").onsubmit = submitted => {
    submitted.preventDefault();
    const [name, room] = submitted.target;
    const ws = new WebSocket(location.origin.replace("http", "ws") + "/chat");
    const send = (event, message, more) => ws.send(JSON.stringify({event, message, ...more}));
    const open = is => { $("say").hidden = !is; $("door").hidden = is; };
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
