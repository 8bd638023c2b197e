//! JSON Web Tokens, in every way that `JwtAuth` accepts one, and a policy that reads a claim: only `role=staff` may
//! enter the room "staff".
//!
//! `cargo run --example jwt` (`PORT=8080` for another port), then open the address that it prints. In a program, get
//! a token from `/token?name=Ann&role=staff` and send it as one of
//!
//! ```text
//! Authorization: Bearer TOKEN            programs; browsers can't set headers on a WebSocket
//! Sec-WebSocket-Protocol: bearer.TOKEN   browsers: new WebSocket(url, ["bearer." + token])
//! Cookie: token=TOKEN                    if the chat is on the same site as the login
//! /chat?token=TOKEN                      if nothing else works: proxies log it
//! {"event":"auth","message":"TOKEN"}     after connecting, before entering
//! ```
//!
//! A token expires after ten minutes, and so does the connection, unless the client sends a newer token in an `auth`
//! event. If your issuer publishes its keys, use `JwtAuth::from_keys` and a task that fetches them: see `JwtKeys`.

use std::error::Error;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::get;
use jsonwebtoken::{EncodingKey, Header, encode, get_current_timestamp};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpSocket};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tower_chat_rooms::{ChatRooms, Claims, Denied, EnterRequest, JwtAuth};

/// The claims of a token. `JwtAuth` itself reads `sub`, `name` and `exp`.
#[derive(Deserialize, Serialize)]
struct Token {
    sub: String,
    name: String,
    role: String,
    exp: u64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // A new secret at each start. In production it comes from your configuration. (tungstenite's handshake key is 16
    // random bytes in base64. In your application, use the crate `getrandom`.)
    let secret = generate_key() + &generate_key();

    // Browsers send cookies with WebSockets from any page. Pages of other origins are refused by default.
    let auth = JwtAuth::hs256(&secret)?.with_cookie("token").with_query("token");
    let rooms = ChatRooms::builder().auth(auth).policy(staff_only).build()?;
    let app = Router::new()
        .route("/", get(Html(PAGE)))
        .route("/token", get(issue))
        .route_service("/chat", rooms.service())
        .with_state(EncodingKey::from_secret(secret.as_bytes()));

    let listener = listen()?;
    let here = listener.local_addr()?;
    println!("open http://{here}, or get a token: curl 'http://{here}/token?name=Ann&role=staff'");
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

/// `JwtAuth` has checked the signature and the expiry. What the other claims mean is up to you.
fn staff_only(request: &EnterRequest<'_>) -> Result<(), Denied> {
    if request.room().as_str() != "staff" {
        return Ok(());
    }
    let claims = request.user().and_then(|user| user.get::<Claims>());
    match claims.and_then(|claims| claims.parse::<Token>().ok()) {
        Some(token) if token.role == "staff" => Ok(()),
        _ => Err(Denied::new("this room is for staff; get a token with role=staff")),
    }
}

#[derive(Deserialize)]
struct TokenRequest {
    name: String,
    #[serde(default)]
    role: String,
}

/// Accepts every name and role. In production, check a password and look up the role.
async fn issue(
    State(key): State<EncodingKey>,
    Query(TokenRequest { name, role }): Query<TokenRequest>,
) -> Result<String, StatusCode> {
    let token = Token { sub: format!("user:{name}"), name, role, exp: get_current_timestamp() + 600 };
    encode(&Header::default(), &token, &key).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>chat rooms with tokens</title>
<form><input value="Ann"> <select><option value="">guest<option>staff</select>
  <select><option>subprotocol<option>cookie<option>query<option>in band<option>none</select>
  <button value="lobby">enter lobby</button> <button value="staff">enter staff</button></form><pre></pre>
<script>
  const line = text => document.querySelector("pre").textContent += text + "\n";
  document.querySelector("form").onsubmit = async e => {
    e.preventDefault();
    const [name, role, way] = e.target, room = e.submitter.value, hello = "hello by " + way.value;
    const token = await (await fetch("/token?" + new URLSearchParams({name: name.value, role: role.value}))).text();
    document.cookie = way.value === "cookie" ? `token=${token}; SameSite=Strict` : "token=; Max-Age=0";
    const url = location.origin.replace("http", "ws") + "/chat" + (way.value === "query" ? "?token=" + token : "");
    const ws = new WebSocket(url, way.value === "subprotocol" ? ["bearer." + token] : []);
    const send = (event, message, more) => ws.send(JSON.stringify({event, message, ...more}));
    ws.onopen = () => {
      if (way.value === "in band") send("auth", token);
      send("enter", name.value, {roomId: room});
      send("message", hello);
    };
    ws.onmessage = ({data}) => JSON.parse(data).event === "heartbeat" ? send("heartbeat", "pong") : line(data);
    ws.onclose = e => line(`closed: ${e.code} ${e.reason}`);
  };
</script>"#;
