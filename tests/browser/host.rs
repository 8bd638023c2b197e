//! A host in the test's own process: an empty page, the chat page, the client module, the chat, and a record of its
//! callbacks.

use std::net::SocketAddr;

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower_chat_rooms::{ChatRooms, ChatRoomsBuilder, RoomEvent};

use crate::PATIENCE;

pub(crate) struct Host {
    rooms: ChatRooms,
    address: SocketAddr,
    told: watch::Receiver<Vec<String>>,
}

impl Host {
    pub(crate) async fn start(rooms: ChatRoomsBuilder) -> Host {
        let (tell, told) = watch::channel(Vec::new());
        let rooms = rooms.events(note(tell)).build().expect("these settings work");
        let app = Router::new()
            .route(
                "/",
                get(async || Html("<!doctype html><title>A host</title><link rel=icon href='data:,'>")),
            )
            .route_service("/talk", rooms.page().with_chat_path("/chat").with_title("Tea house"))
            .route_service("/chat", rooms.service())
            .route_service("/chat-rooms.js", rooms.client_script());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move { axum::serve(listener, app).await });
        Host { rooms, address, told }
    }

    pub(crate) fn rooms(&self) -> &ChatRooms {
        &self.rooms
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until so many callbacks have been told, and returns them: `+ NAME`, `- NAME: REASON`.
    pub(crate) async fn told(&self, count: usize) -> Vec<String> {
        let mut told = self.told.clone();
        let enough = tokio::time::timeout(PATIENCE, told.wait_for(|told| told.len() >= count)).await;
        let all = self.told.borrow().clone();
        assert!(enough.is_ok(), "the host was only told {all:?}");
        all
    }
}

fn note(told: watch::Sender<Vec<String>>) -> impl Fn(RoomEvent<'_>) + Send + Sync + 'static {
    move |event| {
        let line = match event {
            RoomEvent::Entered(e) => format!("+ {}", e.name),
            RoomEvent::Left(e) => format!("- {}: {}", e.name, e.reason),
            _ => return,
        };
        told.send_modify(|lines| lines.push(line));
    }
}
