//! Chat for the holders of JSON Web Tokens, in every way that `JwtAuth` takes one, and a policy
//! that reads a claim of its own: only `role=staff` may enter the room "staff".
//!
//! `cargo run --example jwt` (`PORT=8080` for another port), then open the address that it
//! prints. By hand, get a token from `/token?name=Ann&role=staff` and give it as one of
//!
//! ```text
//! Authorization: Bearer TOKEN            programs; browsers can't set headers on a WebSocket
//! Sec-WebSocket-Protocol: bearer.TOKEN   browsers: new WebSocket(url, ["bearer." + token])
//! Cookie: token=TOKEN                    where the chat is on the same site as the login
//! /chat?token=TOKEN                      where nothing else works: proxies log it
//! {"event":"auth","message":"TOKEN"}     after connecting, before entering
//! ```
//!
//! A token is good for ten minutes, and the connection with it; a newer one that is sent in band
//! prolongs it. Where an issuer publishes its keys, `JwtAuth::from_keys` takes the place of
//! `JwtAuth::hs256`, with a task that fetches them anew: see `JwtKeys`.

use std::error::Error;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::get;
use jsonwebtoken::{EncodingKey, Header, encode, get_current_timestamp};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tower_chat_rooms::{ChatRooms, Claims, Denied, EnterRequest, JwtAuth};

/// What the token says, beyond what `JwtAuth` asks for.
#[derive(Deserialize, Serialize)]
struct Token {
    sub: String,
    name: String,
    role: String,
    exp: u64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // New at each start, so old tokens end with the process. A real one comes from the
    // configuration. (tungstenite's handshake key is 16 random bytes in base64, and here anyway;
    // the crate `getrandom` is the straight way.)
    let secret = generate_key() + &generate_key();

    // Browsers send a cookie from whatever page; those of other origins are refused by default.
    let auth = JwtAuth::hs256(&secret)?.with_cookie("token").with_query("token");
    let rooms = ChatRooms::builder().auth(auth).policy(staff_only).build()?;
    let app = Router::new()
        .route("/", get(Html(PAGE)))
        .route("/token", get(issue))
        .route_service("/chat", rooms.service())
        .with_state(EncodingKey::from_secret(secret.as_bytes()));

    let port = std::env::var("PORT").unwrap_or_else(|_| "3000".into());
    let address = format!("127.0.0.1:{port}");
    let listener = TcpListener::bind(&address)
        .await
        .map_err(|e| format!("can't listen on {address}: {e}; choose another port with PORT"))?;
    let here = listener.local_addr()?;
    println!("open http://{here}, or get a token: curl 'http://{here}/token?name=Ann&role=staff'");
    tokio::select! {
        served = axum::serve(listener, app).into_future() => served?,
        stopped = tokio::signal::ctrl_c() => stopped?,
    }
    rooms.shutdown().await;
    Ok(())
}

/// `JwtAuth` has checked signature and expiry; what the other claims mean is the host's affair.
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
struct Wish {
    name: String,
    #[serde(default)]
    role: String,
}

/// Believes everybody. A real issuer would look at a password first, and into its own books for
/// the role.
async fn issue(State(key): State<EncodingKey>, Query(wish): Query<Wish>) -> Result<String, StatusCode> {
    let Wish { name, role } = wish;
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
