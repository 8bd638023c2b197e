//! A bot that answers `!help` and `!echo TEXT`. It reconnects by itself when its connection breaks or
//! the server restarts.
//!
//! Start a server with `cargo run -p standalone` and the bot with
//! `cargo run -p tower-chat-rooms-client --example bot -- --room lobby`, then talk to it in that room.

use std::error::Error;

use clap::Parser;
use serde_json::Value;
use tower_chat_rooms_client::{Client, ClientEvent, ClientSender, ClientState, RoomFrame};

/// A bot for a chat room
#[derive(Parser)]
struct Options {
    /// The server's URL: ws:// or wss://
    #[arg(long, env = "BOT_URL", default_value = "ws://127.0.0.1:3000/")]
    url: String,

    /// The room to enter
    #[arg(long, env = "BOT_ROOM", default_value = "lobby")]
    room: String,

    /// The bot's name
    #[arg(long, env = "BOT_NAME", default_value = "bot")]
    name: String,

    /// A token, for servers that require one
    #[arg(long, env = "BOT_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

#[tokio::main]
async fn main() {
    if let Err(error) = run(Options::parse()).await {
        eprintln!("bot: {error}");
        std::process::exit(1);
    }
}

async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let mut builder = Client::connect(options.url).name(options.name).room(options.room);
    if let Some(token) = options.token {
        builder = builder.token(token);
    }
    let mut client = builder.await?;
    let sender = client.sender();
    loop {
        let event = tokio::select! {
            event = client.recv() => event,
            _ = tokio::signal::ctrl_c() => break,
        };
        match event {
            Some(ClientEvent::Message(frame)) if frame.is_own() => {}
            Some(ClientEvent::Message(frame)) => answer(&sender, &frame),
            Some(ClientEvent::State(ClientState::Closed { reason, .. })) => return Err(reason.into()),
            Some(ClientEvent::State(ClientState::Outside { reason, .. })) => println!("outside: {reason}"),
            Some(ClientEvent::State(ClientState::Reconnecting { reason, .. })) => {
                println!("reconnecting: {reason}");
            }
            Some(ClientEvent::Enter(frame)) => println!("+ {}", frame.name().unwrap_or_default()),
            Some(ClientEvent::Out(frame)) => println!("- {}", frame.name().unwrap_or_default()),
            Some(other) => println!("{other:?}"),
            None => return Ok(()),
        }
    }
    client.leave().await;
    Ok(())
}

/// Answers in a task of its own, so that the next event does not wait for the acknowledgement.
fn answer(sender: &ClientSender, frame: &RoomFrame) {
    let name = frame.name().unwrap_or("somebody");
    let Some(message) = frame.message().as_str() else { return };
    println!("{name}: {message}");
    let text = match message.split_once(' ').unwrap_or((message, "")) {
        ("!help", _) => format!("{name}, I know !help and !echo TEXT"),
        ("!echo", text) => text.to_owned(),
        _ => return,
    };
    let sending = sender.send(&Value::from(text));
    tokio::spawn(async move {
        if let Err(error) = sending.await {
            eprintln!("not sent: {error}");
        }
    });
}
