//! A message store of your own: one file for each room, with one message in each line.
//!
//! `cargo run --example store`, then open <http://127.0.0.1:3000> in two tabs. What you send is in the folder `messages`
//! before the other tab shows it. For databases, see the crate `tower-chat-rooms-store`.

use std::collections::HashMap;
use std::error::Error;
use std::io::{self, Write};

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tower_chat_rooms::store::{MessageStore, PageRange, StoredMessage};
use tower_chat_rooms::{ChatRooms, MessageId, RoomId};

/// Keeps all messages in memory, too, to find them by their keys. It does not read the files when it starts.
#[derive(Default)]
struct Files(Mutex<HashMap<RoomId, Vec<StoredMessage>>>);

impl MessageStore for Files {
    type Error = io::Error;

    async fn append(&self, room: &RoomId, new: &[StoredMessage]) -> io::Result<Vec<MessageId>> {
        // There is one call at a time for a room, so nothing changes meanwhile. Other rooms must not wait.
        let mut messages = self.0.lock().await.get(room).cloned().unwrap_or_default();
        let (mut ids, mut lines) = (Vec::new(), String::new());
        for message in new {
            // Sent before, by the server or by the client?
            let is_same =
                |m: &&StoredMessage| m.id() == message.id() || m.key().is_some() && m.key() == message.key();
            if let Some(earlier) = messages.iter().find(is_same) {
                ids.push(earlier.id());
                continue;
            }
            lines += &format!("{} {} {}\n", message.id(), message.name().unwrap_or("-"), message.body());
            ids.push(message.id());
            messages.push(message.clone());
        }
        // A room id may contain slashes.
        let name: String = room.as_str().bytes().map(|byte| format!("{byte:02x}")).collect();
        tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all("messages")?;
            let path = format!("messages/room-{name}.txt");
            let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
            file.write_all(lines.as_bytes())?;
            file.sync_data()
        })
        .await??;
        self.0.lock().await.insert(room.clone(), messages);
        Ok(ids)
    }

    async fn page(&self, room: &RoomId, range: PageRange, limit: usize) -> io::Result<Vec<StoredMessage>> {
        let rooms = self.0.lock().await;
        Ok(range.select(rooms.get(room).map_or(&[], Vec::as_slice), limit).to_vec())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let rooms = ChatRooms::builder().store(Files::default()).build()?;
    let app = Router::new().route_service("/", rooms.page()).route_service("/chat", rooms.service());
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("open http://{} in two tabs", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
