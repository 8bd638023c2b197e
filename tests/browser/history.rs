//! Messages from before: the page reads them from the server's store while its user scrolls up.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::devtools::Browser;
use crate::page::Page;
use crate::screenshot::{keep, picture};
use crate::server::Server;

const MESSAGES: usize = 160;

/// Counts how often the page asks for earlier messages.
const COUNT_REQUESTS: &str = r#"
    const { send } = WebSocket.prototype;
    window.requests = 0;
    WebSocket.prototype.send = function (text) {
        if (JSON.parse(text).event === 'history') window.requests += 1;
        send.call(this, text);
    };
"#;

/// Waits until the page has handled that its user has scrolled.
const FRAMES: &str =
    "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))";

#[tokio::test]
async fn earlier_messages_are_shown_while_the_user_scrolls_up() {
    let folder = std::env::temp_dir().join(format!("chat-history-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("there is a temporary folder");
    let store = format!("sqlite:{}", folder.join("chat.db").display());
    let mut server = Server::start_with(&["--store", &store]).await;
    talk(&server).await;
    // What the server had in memory is gone.
    server.kill().await;
    server.start_again().await;

    let browser = Browser::new().await;
    let bob = Page::enter_new(&browser, &server, "Bob", "tea").await;
    bob.until_text("You joined as Bob").await;
    let newest: Vec<String> = (MESSAGES - 50..MESSAGES).map(line).collect();
    assert_eq!(bob.texts().await, [&newest[..], &["You joined as Bob".to_owned()]].concat());
    assert_eq!(bob.own_texts().await, [] as [&str; 0], "the ids of members are not used again");
    keep("history", &picture(&bob).await);
    bob.value(&format!("(() => {{ {COUNT_REQUESTS} }})()")).await;
    for shown in [100, 150, MESSAGES] {
        let first = line(MESSAGES - shown);
        bob.value("document.querySelector('#log').scrollTop = 10").await;
        bob.until_text(&first).await;
        // What was on the screen is still there.
        let top = bob.value("document.querySelector('#log').scrollTop").await;
        assert!(top.as_f64().expect("a number") > 100.0, "{top}");
    }
    keep("history-earlier", &picture(&bob).await);
    let mut all: Vec<String> = (0..MESSAGES).map(line).collect();
    all.push("You joined as Bob".to_owned());
    assert_eq!(bob.texts().await, all);
    // It does not ask for others: it knows that there are none.
    bob.value("document.querySelector('#log').scrollTop = 0").await;
    bob.value(FRAMES).await;
    assert_eq!(bob.value("window.requests").await, 3);
    let ann = Page::enter_new(&browser, &server, "Ann", "tea").await;
    ann.say("hello").await;
    bob.until_text("Ann: hello").await;
    assert_eq!(bob.texts().await.len(), MESSAGES + 3);
    bob.assert_no_complaints().await;
    drop(server);
    std::fs::remove_dir_all(folder).expect("the folder can be removed");
}

fn line(n: usize) -> String {
    format!("Zoe: message {n}")
}

/// Sends messages, and waits until all of them have come back.
async fn talk(server: &Server) {
    let (mut socket, _) = connect_async(server.socket_url()).await.expect("the server accepts");
    socket.send(text(json!({"event": "enter", "message": "Zoe", "roomId": "tea"}))).await.expect("it reads");
    for n in 0..MESSAGES {
        socket
            .send(text(json!({"event": "message", "message": format!("message {n}")})))
            .await
            .expect("it reads");
    }
    let last = json!(format!("message {}", MESSAGES - 1));
    loop {
        let frame = socket.next().await.expect("the server answers").expect("it stays");
        if let Message::Text(frame) = frame {
            let frame: Value = serde_json::from_str(&frame).expect("frames are JSON");
            if frame["message"] == last {
                return;
            }
        }
    }
}

fn text(frame: Value) -> Message {
    frame.to_string().into()
}
