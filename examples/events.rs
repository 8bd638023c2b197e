//! The event hook as a channel: a task receives every enter and leave, prints it with the count and the reason, and
//! keeps a roster of each room.
//!
//! `cargo run --example events` (`PORT=8080` for another port), then open the address that it prints in a few tabs,
//! enter other rooms, close and reload tabs, and watch the terminal.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tower_chat_rooms::{ChannelEvent, ChatRooms, ConnectionId, EventReceiver, Name, RoomId, event_channel};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (events, receiver) = event_channel(1024);
    let rooms = Arc::new(ChatRooms::builder().events(events).build()?);
    // The channel ends with the last handle to the rooms, so the task that reads it must not hold one.
    let reader = tokio::spawn(read(receiver, Arc::downgrade(&rooms)));
    let app = Router::new().route("/", get(Html(PAGE))).route_service("/chat", rooms.service());

    let listener = listen()?;
    println!("open http://{} in a few tabs; ctrl-c ends it", listener.local_addr()?);
    let (stop, stopped) = oneshot::channel::<()>();
    let server = axum::serve(listener, app).with_graceful_shutdown(async { drop(stopped.await) });
    tokio::spawn(server.into_future());

    tokio::signal::ctrl_c().await?;
    drop(stop);
    rooms.shutdown().await;
    drop(rooms);
    // Every member has left, and the channel has all of the events. It does not end while a client that never
    // finishes its request keeps axum running.
    if let Ok(read) = timeout(Duration::from_secs(1), reader).await {
        read?;
    }
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

async fn read(mut events: EventReceiver, rooms: Weak<ChatRooms>) {
    let mut roster = Roster::default();
    while let Some(event) = events.recv().await {
        match event {
            ChannelEvent::Entered(e) => {
                println!("+ {} entered {}, {} online", e.name, e.room, e.online);
                roster.add(e.room.clone(), e.connection, e.name);
                roster.print(&e.room);
            }
            ChannelEvent::Left(e) => {
                println!("- {} left {} ({}), {} online", e.name, e.room, e.reason, e.online);
                roster.remove(&e.room, e.connection);
                roster.print(&e.room);
            }
            ChannelEvent::Message(message) => {
                let sender = message.sender.map_or("the host".into(), |sender| sender.name.to_string());
                println!("  {sender} sent {} a {:?}", message.room, message.event);
            }
            ChannelEvent::Lost(n) => {
                println!("! {n} events were lost because this task was too slow; listing the members anew");
                roster = rooms.upgrade().map_or_else(Roster::default, |rooms| Roster::of(&rooms));
            }
            _ => {}
        }
    }
    println!("the rooms are closed");
}

/// The members of each room by connection, because two may have the same name. The events of one connection come in
/// order, those of different connections may overtake each other.
#[derive(Default)]
struct Roster(BTreeMap<RoomId, BTreeMap<ConnectionId, Name>>);

impl Roster {
    fn of(rooms: &ChatRooms) -> Roster {
        let mut roster = Roster::default();
        for room in rooms.rooms() {
            for member in rooms.members(&room.id) {
                roster.add(room.id.clone(), member.connection, member.name);
            }
        }
        roster
    }

    fn add(&mut self, room: RoomId, connection: ConnectionId, name: Name) {
        self.0.entry(room).or_default().insert(connection, name);
    }

    fn remove(&mut self, room: &RoomId, connection: ConnectionId) {
        if let Some(members) = self.0.get_mut(room) {
            members.remove(&connection);
            if members.is_empty() {
                self.0.remove(room);
            }
        }
    }

    fn print(&self, room: &RoomId) {
        let names: Vec<&str> =
            self.0.get(room).into_iter().flatten().map(|(_, name)| name.as_str()).collect();
        println!("  {room}: {}", if names.is_empty() { "nobody".into() } else { names.join(", ") });
    }
}

const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>chat rooms with events</title>
<form><input value="Ann"> <input value="lobby"> <button>enter</button></form><pre></pre>
<script>
  const form = document.querySelector("form"), log = document.querySelector("pre");
  const line = text => log.textContent += text + "\n";
  const send = (event, message, more) => ws.send(JSON.stringify({event, message, ...more}));
  const enter = () => send("enter", form[0].value, {roomId: form[1].value});
  let ws;
  form.onsubmit = e => {
    e.preventDefault();
    if (ws?.readyState === WebSocket.OPEN) return enter();
    // Not earlier, because a connection has to enter a room within ten seconds.
    ws = new WebSocket(location.origin.replace("http", "ws") + "/chat");
    ws.onopen = enter;
    ws.onclose = e => line(`closed: ${e.code} ${e.reason}`);
    ws.onmessage = ({data}) => JSON.parse(data).event === "heartbeat" ? send("heartbeat", "pong") : line(data);
  };
</script>"#;
