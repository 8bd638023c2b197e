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

use crate::devtools::{Browser, DevTab};
use crate::server::Server;
use crate::tab::Tab;

const PAGE: &str = include_str!("legacy.html");

/// Where it isn't about the heartbeat, a busy machine may take a little longer.
const OFTEN: &[&str] = &["--heartbeat", "500ms", "--allow-origin", "any"];

/// They reconnect when the machine stalls for half a second, which a busy one may do once.
#[tokio::test]
async fn simple_clients_chat_and_never_need_to_reconnect() {
    let browser = Browser::new().await;
    let mut reconnects = Vec::new();
    while reconnects.len() < 3 {
        match chat_for_five_seconds(&browser).await {
            0 => return,
            some => reconnects.push(some),
        }
    }
    panic!("in three chats of five seconds there were {reconnects:?} reconnects");
}

/// Returns how often the clients have reconnected, or fails if the chat isn't as it should be.
async fn chat_for_five_seconds(browser: &Browser) -> u64 {
    let server = Server::start_with(&["--allow-origin", "any"]).await;
    let ann = Legacy::join(browser, &server, "Ann").await;
    ann.until("lines().includes('+ Ann')").await;
    let bob = Legacy::join(browser, &server, "Bob").await;
    ann.until("lines().includes('+ Bob')").await;

    ann.say("hello").await;
    bob.until("lines().includes('Ann: hello') || seen.sockets.length > 1").await;
    bob.until("performance.now() - seen.begin > 5000 && open().length").await;
    bob.say("still here").await;
    ann.until("lines().includes('Bob: still here') || seen.sockets.length > 1").await;

    let reconnects = ann.count("seen.sockets.length").await + bob.count("seen.sockets.length").await - 2;
    if reconnects == 0 {
        ann.assert_lines(&["+ Ann", "+ Bob", "Ann: hello", "Bob: still here"]).await;
        bob.assert_lines(&["+ Bob", "Ann: hello", "Bob: still here"]).await;
        for client in [&ann, &bob] {
            assert_eq!(client.value("[shown(), seen.online]").await, json!([2, 2]));
            // One came right after each of the opening and the enter, then one each second.
            assert!(client.count("seen.heartbeats").await >= 5);
            assert_eq!(client.tab.complaints().await, Vec::<String>::new());
        }
    }
    reconnects
}

#[tokio::test]
async fn simple_clients_come_back_after_a_crash() {
    let (mut server, browser) = (Server::start_with(OFTEN).await, Browser::new().await);
    let clients = join_all(&browser, &server, &["Ann", "Bob"]).await;

    server.kill().await;
    for client in &clients {
        client.until("seen.sockets.length > 2").await;
    }
    server.start_again().await;

    assert_recovered(&clients).await;
}

#[tokio::test]
async fn simple_clients_come_back_after_a_restart() {
    let (mut server, browser) = (Server::start_with(OFTEN).await, Browser::new().await);
    let clients = join_all(&browser, &server, &["Ann", "Bob"]).await;

    server.terminate().await;
    server.start_again().await;

    assert_recovered(&clients).await;
}

/// A server that hung finds the ends of the old sockets and the new ones all at once. If then the
/// old one's end reaches a client between the new one's opening and its first heartbeat, the
/// client closes the new one, and has nothing left that would open another: it is stranded. No
/// server can exclude that, but it must be rare.
#[tokio::test]
async fn simple_clients_come_back_to_a_server_that_hung() {
    let (server, browser) = (Server::start_with(OFTEN).await, Browser::new().await);
    let clients = join_all(&browser, &server, &["Ann", "Bob", "Cid", "Dot", "Eve", "Fay"]).await;

    hang(&server, &clients).await;

    let mut online = 0;
    for client in &clients {
        client.until("quiet()").await;
        online += client.count("open().length").await;
    }
    assert!(online >= 4, "of 6 only {online} have come back");
    for client in &clients {
        if client.count("open().length").await == 1 {
            assert_eq!(client.value("[shown(), seen.online]").await, json!([online, online]));
        }
    }
    for client in &clients {
        // Who is stranded reloads the page, so to speak.
        client.value("open().length || connect()").await;
    }
    assert_recovered(&clients).await;
}

/// Freezes the server until all watchdogs have bitten.
async fn hang(server: &Server, clients: &[Legacy]) {
    server.freeze();
    for client in clients {
        client.until("seen.watchdogs > 0").await;
    }
    server.thaw();
}

async fn join_all(browser: &Browser, server: &Server, names: &[&str]) -> Vec<Legacy> {
    let mut clients = Vec::new();
    for name in names {
        clients.push(Legacy::join(browser, server, name).await);
    }
    for client in &clients {
        client.until(&format!("shown() === {} && seen.heartbeats >= 2", names.len())).await;
    }
    clients
}

/// Each has one connection again, which stays, knows how many there are, and all hear each other.
/// If the machine stalls and somebody reconnects meanwhile, that says nothing, and is done again.
async fn assert_recovered(clients: &[Legacy]) {
    for _ in 0..3 {
        for client in clients {
            client.until("quiet() && open().length === 1").await;
        }
        let before = connections(clients).await;
        let seen = talk(clients).await;
        if connections(clients).await == before {
            let mut lines: Vec<String> = clients.iter().map(|c| format!("{}: back", c.name)).collect();
            lines.sort();
            let all = clients.len();
            for seen in seen {
                assert_eq!(seen, json!({"shown": all, "online": all, "lines": lines}));
            }
            return;
        }
    }
    panic!("they reconnect all the time");
}

/// All say something at once. Returns what each sees then.
async fn talk(clients: &[Legacy]) -> Vec<Value> {
    for client in clients {
        client.value("clear(); window.before = seen.sockets.length").await;
    }
    for client in clients {
        client.value("open().length && say('back')").await;
    }
    let mut seen = Vec::new();
    for client in clients {
        client.until(&format!("lines().length >= {} || seen.sockets.length > before", clients.len())).await;
        seen.push(client.value("({ shown: shown(), online: seen.online, lines: lines().sort() })").await);
    }
    seen
}

/// How many connections each has begun so far.
async fn connections(clients: &[Legacy]) -> Vec<u64> {
    let mut connections = Vec::new();
    for client in clients {
        connections.push(client.count("seen.sockets.length").await);
    }
    connections
}

struct Legacy {
    name: String,
    tab: DevTab,
}

impl Legacy {
    /// Enters without naming a room, as one does who leaves its field empty.
    async fn join(browser: &Browser, server: &Server, name: &str) -> Legacy {
        let client = Legacy { name: name.to_owned(), tab: browser.tab().await };
        client.tab.goto(&serve_page().await).await;
        client.value(LOOKS).await;
        client.value(&format!("join({}, {}, '')", json!(server.socket_url()), json!(name))).await;
        client
    }

    async fn say(&self, text: &str) {
        self.value(&format!("say({})", json!(text))).await;
    }

    async fn count(&self, expression: &str) -> u64 {
        self.value(expression).await.as_u64().expect("a number")
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

/// Serves the page by another server than the chat's, and returns its address. To the chat it is a
/// foreign page.
pub(crate) async fn serve_page() -> String {
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

/// How the test looks at the page. It is quiet when nothing was opened or closed for longer than
/// the client's watchdog and two heartbeats of the server take.
const LOOKS: &str = "
    window.lines = () => [...document.querySelectorAll('#lines li')].map(item => item.textContent);
    window.shown = () => Number(document.querySelector('#num').value);
    window.clear = () => document.querySelector('#lines').replaceChildren();
    window.quiet = () => performance.now() - seen.changedAt > 4000;
    window.open = () => seen.sockets.filter(socket => socket.readyState === WebSocket.OPEN);
    0";
