//! A room policy: which rooms exist, what may be said in them, and what happens to slow consumers.
//!
//! `cargo run --example policy` (`PORT=8080` for another port), then open the address that it prints in two tabs. Enter
//! "lobby", "ticker" or another room, and send "damn", "/dice", "http://spam.example" or anything else.

use std::collections::HashSet;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::RwLock;
use tower_chat_rooms::{
    Access, ChatRooms, Denied, EnterRequest, MessageRequest, RoomId, RoomPolicy, SlowConsumer, Verdict,
};

/// The rooms that exist. This stands for a database, so the policy awaits its answer.
struct KnownRooms(Arc<RwLock<HashSet<String>>>);

impl RoomPolicy for KnownRooms {
    async fn may_enter(&self, request: &EnterRequest<'_>) -> Result<Access, Denied> {
        let is_known = self.0.read().await.contains(request.room().as_str());
        if is_known { Ok(Access::member()) } else { Err(Denied::new("there is no such room")) }
    }

    // This is called for every message, so it is not async.
    fn may_send(&self, request: &MessageRequest<'_>) -> Verdict {
        let frame: Value = serde_json::from_str(request.body()).unwrap_or_default();
        let Some(text) = frame["message"].as_str() else { return Verdict::allow() };
        let replace = |text: String| {
            let frame = json!({"event": request.event(), "message": text});
            Verdict::replace(&frame).unwrap_or_else(|_| Verdict::drop_silently())
        };
        match text {
            "/dice" => replace(format!("rolls a {}", dice())),
            text if text.contains("http://") => Verdict::refuse("no links, please"),
            text if text.contains("damn") => replace(text.replace("damn", "****")),
            _ => Verdict::allow(),
        }
    }

    // A member that reads too slowly is disconnected, except where only the latest value matters.
    fn slow_consumer(&self, room: &RoomId) -> Option<SlowConsumer> {
        (room.as_str() == "ticker").then_some(SlowConsumer::Latest)
    }
}

fn dice() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.subsec_nanos() / 100 % 6 + 1
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let known = HashSet::from(["lobby".to_owned(), "ticker".to_owned()]);
    let rooms = ChatRooms::builder().policy(KnownRooms(Arc::new(RwLock::new(known)))).build()?;
    let app = Router::new().route("/", get(Html(PAGE))).route_service("/chat", rooms.service());

    let listener = listen()?;
    println!("open http://{} in two tabs; ctrl-c ends it", listener.local_addr()?);
    tokio::select! {
        served = axum::serve(listener, app).into_future() => served?,
        stopped = tokio::signal::ctrl_c() => stopped?,
    }
    rooms.shutdown().await;
    Ok(())
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

const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>chat rooms with a policy</title>
<form><input value="Ann"> <input value="lobby"> <button>enter</button></form>
<form><input placeholder="message"> <button>send</button></form><pre></pre>
<script>
  const [enter, say] = document.querySelectorAll("form"), log = document.querySelector("pre");
  const line = text => log.textContent += text + "\n";
  const send = (event, message, more) => ws.send(JSON.stringify({event, message, ...more}));
  let ws;
  enter.onsubmit = e => {
    e.preventDefault();
    ws?.close();
    ws = new WebSocket(location.origin.replace("http", "ws") + "/chat");
    ws.onopen = () => send("enter", enter[0].value, {roomId: enter[1].value});
    ws.onclose = e => line(`closed: ${e.code} ${e.reason}`);
    ws.onmessage = ({data}) => JSON.parse(data).event === "heartbeat" ? send("heartbeat", "pong") : line(data);
  };
  say.onsubmit = e => { e.preventDefault(); send("message", say[0].value); say.reset(); };
</script>"#;
