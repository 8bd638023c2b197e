//! The simple client that the protocol comes from works with this server as it is.

use bytes::Bytes;
use http::Response;
use http::header::CONTENT_TYPE;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::devtools::{Browser, Tab};
use crate::server::Server;

const PAGE: &str = include_str!("legacy.html");

#[tokio::test]
async fn simple_clients_chat_and_never_need_to_reconnect() {
    let (server, browser) = (Server::start().await, Browser::new().await);
    let ann = Legacy::join(&browser, &server, "Ann").await;
    ann.until("lines().includes('+ Ann')").await;
    let bob = Legacy::join(&browser, &server, "Bob").await;
    ann.until("lines().includes('+ Bob')").await;

    ann.say("hello").await;
    bob.until("lines().includes('Ann: hello')").await;
    // One comes right after the enter, then one each second.
    bob.until("seen.heartbeats >= 6").await;
    bob.say("still here").await;
    ann.until("lines().includes('Bob: still here')").await;

    ann.assert_lines(&["+ Ann", "+ Bob", "Ann: hello", "Bob: still here"]).await;
    bob.assert_lines(&["+ Bob", "Ann: hello", "Bob: still here"]).await;
    for client in [&ann, &bob] {
        assert_eq!(
            client.value("[seen.sockets, seen.watchdogs, shown(), seen.online]").await,
            json!([1, 0, 2, 2])
        );
        assert_eq!(client.tab.complaints().await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn simple_clients_come_back_after_a_crash() {
    let (mut server, browser) = (Server::start().await, Browser::new().await);
    let (ann, bob) = two(&browser, &server).await;

    server.kill().await;
    for client in [&ann, &bob] {
        client.until("seen.sockets > 2").await;
    }
    server.start_again().await;

    assert_recovered(&ann, &bob).await;
}

#[tokio::test]
async fn simple_clients_come_back_after_a_restart() {
    let (mut server, browser) = (Server::start().await, Browser::new().await);
    let (ann, bob) = two(&browser, &server).await;

    server.terminate().await;
    server.start_again().await;

    assert_recovered(&ann, &bob).await;
}

#[tokio::test]
async fn simple_clients_come_back_to_a_server_that_hung() {
    let (server, browser) = (Server::start().await, Browser::new().await);
    let (ann, bob) = two(&browser, &server).await;

    for round in 1..=2 {
        server.freeze();
        for client in [&ann, &bob] {
            client.until(&format!("seen.watchdogs >= {round}")).await;
        }
        server.thaw();
        assert_recovered(&ann, &bob).await;
    }
}

async fn two(browser: &Browser, server: &Server) -> (Legacy, Legacy) {
    let ann = Legacy::join(browser, server, "Ann").await;
    let bob = Legacy::join(browser, server, "Bob").await;
    for client in [&ann, &bob] {
        client.until("shown() === 2 && seen.heartbeats >= 2").await;
    }
    (ann, bob)
}

/// Each has one connection again, which stays, knows that there are two, and they hear each other.
async fn assert_recovered(ann: &Legacy, bob: &Legacy) {
    let _ = ann.tab.eval("new Promise(r => setTimeout(r, 15000))").await;
    for c in [ann, bob] { eprintln!("EV {}", serde_json::to_string_pretty(&c.value("seen.ev").await).unwrap()); }
    for client in [ann, bob] {
        client.until("settled() && shown() === 2 && seen.online === 2").await;
    }
    for c in [ann, bob] {
        eprintln!(
            "TIMES {}",
            c.value("JSON.stringify([seen.sockets, seen.watchdogs, seen.heartbeats, seen.log])").await
        );
    }
    ann.value("clear()").await;
    bob.value("clear()").await;
    ann.say("back?").await;
    bob.until("lines().includes('Ann: back?')").await;
    bob.say("back.").await;
    ann.until("lines().includes('Bob: back.')").await;
    ann.assert_lines(&["Ann: back?", "Bob: back."]).await;
    bob.assert_lines(&["Ann: back?", "Bob: back."]).await;
}

struct Legacy {
    tab: Tab,
}

impl Legacy {
    /// Enters without naming a room, as one does who leaves its field empty.
    async fn join(browser: &Browser, server: &Server, name: &str) -> Legacy {
        let client = Legacy { tab: browser.tab().await };
        client.tab.goto(&serve_page().await).await;
        client.value(LOOKS).await;
        client.value(&format!("join({}, {}, '')", json!(server.socket_url()), json!(name))).await;
        client
    }

    async fn say(&self, text: &str) {
        self.value(&format!("say({})", json!(text))).await;
    }

    async fn assert_lines(&self, expected: &[&str]) {
        assert_eq!(self.value("lines()").await, json!(expected));
    }

    async fn until(&self, expression: &str) {
        self.tab.until(expression).await;
    }

    async fn value(&self, expression: &str) -> Value {
        self.tab.eval(expression).await.unwrap_or_else(|e| panic!("{expression}: {e}"))
    }
}

/// Serves the page by another server than the chat's, and returns its address.
async fn serve_page() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = service_fn(async |_| {
                let response = Response::builder().header(CONTENT_TYPE, "text/html");
                response.body(Full::<Bytes>::from(PAGE))
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    format!("http://{address}/")
}

/// How the test looks at the page. A client has settled when nothing was opened or closed for
/// longer than its watchdog and the server's two heartbeats take.
const LOOKS: &str = "
    window.lines = () => [...document.querySelectorAll('#lines li')].map(item => item.textContent);
    window.shown = () => Number(document.querySelector('#num').value);
    window.clear = () => document.querySelector('#lines').replaceChildren();
    window.settled = () => performance.now() - seen.changedAt > 4000
        && seen.all.filter(socket => socket.readyState === WebSocket.OPEN).length === 1;
    0";
