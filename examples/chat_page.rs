//! A chat with its page, next to an axum app: `cargo run --example chat_page`, and open <http://127.0.0.1:3000/chat> in
//! two tabs.

use std::error::Error;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tower_chat_rooms::{ChatRooms, History, Recovery};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // New visitors see the latest messages, and nobody notices a connection that is lost for a short time.
    let recovery = Recovery::default().resume_window(Duration::from_secs(30)).history(History::last(200));
    let rooms = ChatRooms::builder().recovery(recovery).transient_events(["typing"]).build()?;

    let app = Router::new()
        .route("/", get("the rest of the app; the chat is at /chat"))
        .route_service("/chat", rooms.page().with_title("Tea house").with_chat_path("/chat/ws"))
        .route_service("/chat/ws", rooms.service());

    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("open http://{}/chat in two tabs", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
