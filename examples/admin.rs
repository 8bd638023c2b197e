//! The admin view next to an axum app, for those who know a token: `ADMIN_TOKEN=... cargo run --example admin`, then open
//! the address that it prints. The browser asks for a name and a password: any name, and the token.
//!
//! ```sh
//! curl -H "Authorization: Bearer $ADMIN_TOKEN" 'http://127.0.0.1:3000/admin/rooms?sort=rate'
//! ```

use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::net::TcpListener;
use tower_chat_rooms::ChatRooms;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let token = std::env::var("ADMIN_TOKEN").map_err(|_| "set ADMIN_TOKEN to a long random text")?;
    let rooms = ChatRooms::builder().transient_events(["typing"]).build()?;
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("the chat is at http://{0}/, the admin view at http://{0}/admin", listener.local_addr()?);
    axum::serve(listener, app(&rooms, &token)).await?;
    Ok(())
}

pub(crate) fn app(rooms: &ChatRooms, token: &str) -> Router {
    let guard = from_fn_with_state(Arc::from(token), operators_only);
    // The middleware below guards the view. Apart from the actions that are allowed here, it is read-only.
    let admin = rooms.admin().allow_kick().allow_close_room().guarded_by_host();
    Router::new()
        .nest_service("/admin", admin)
        // The middleware guards only the routes that are added before it.
        .layer(guard)
        .route_service("/", rooms.page())
        .route_service("/chat", rooms.service())
}

/// Lets only requests with the token pass. In production, use TLS. Otherwise, anyone on the network path can read the
/// token.
async fn operators_only(State(token): State<Arc<str>>, request: Request, next: Next) -> Response {
    if given_token(request.headers()).is_some_and(|given| is_same(&given, &token)) {
        return next.run(request).await;
    }
    // Browsers then ask for a password.
    (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Basic realm=\"admin\"")], "a token is needed\n")
        .into_response()
}

/// The token of a program (`Bearer`), or the password of a browser (`Basic`).
fn given_token(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    if let Some(token) = value.strip_prefix("Bearer ") {
        return Some(token.to_owned());
    }
    let name_and_password = STANDARD.decode(value.strip_prefix("Basic ")?).ok()?;
    Some(str::from_utf8(&name_and_password).ok()?.split_once(':')?.1.to_owned())
}

/// Compares in a time that does not depend on where the first difference is.
fn is_same(given: &str, token: &str) -> bool {
    given.len() == token.len()
        && given.bytes().zip(token.bytes()).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}
