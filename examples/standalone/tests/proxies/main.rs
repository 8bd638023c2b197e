//! The standalone behind real reverse proxies, with the configurations in docs/cookbook/proxies.md:
//! `cargo test -p standalone --test proxies`.
//!
//! nginx, Caddy, HAProxy and Apache must be installed. They run as child processes on ports of their own. With
//! `--features redis`, it also runs `examples/cluster/run`, which needs Redis.

#[cfg(feature = "redis")]
mod cluster;
mod document;
mod proxy;
#[path = "../support/standalone.rs"]
mod standalone;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tower_chat_rooms_client::{Client, ClientEvent, ClientState};

use crate::document::{adapt, blocks};
use crate::proxy::{Program, Proxy};
use crate::standalone::Standalone;

/// For what takes a moment, on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(30);

const MAX_PER_IP: usize = 4;

#[tokio::test]
async fn nginx() {
    const SOCKET: &str = "unix:PATH";
    fn config(ports: &[u16], upstream: &str) -> String {
        let [main, location] = blocks("nginx").try_into().expect("two nginx blocks");
        let main = adapt(main, &[("10m", "1s")]);
        let location = adapt(location, &[("127.0.0.1:3000", upstream)]);
        let listen: String = ports.iter().map(|port| format!("listen 127.0.0.1:{port};\n")).collect();
        format!(
            "daemon off;\npid pid;\nuser www-data;\nerror_log stderr;\n{main}\nevents {{}}\nhttp {{\n\
             access_log off;\nclient_body_temp_path body;\nproxy_temp_path proxy;\nfastcgi_temp_path fastcgi;\n\
             uwsgi_temp_path uwsgi;\nscgi_temp_path scgi;\nserver {{\n{listen}{location}\n}}\n}}\n"
        )
    }
    let program = Program {
        binary: "nginx",
        arguments: &["-p", ".", "-c", "config", "-e", "stderr"],
        reload_signal: Some("HUP"),
        config,
    };
    check(&program, OnReload::Closes, None).await;
    check(&program, OnReload::Closes, Some(SOCKET)).await;
}

#[tokio::test]
async fn caddy() {
    fn config(block: &str, ports: &[u16], upstream: &str) -> String {
        let sites: Vec<String> = ports.iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
        let site = adapt(block, &[("127.0.0.1:3000", upstream), ("example.com", &sites.join(", "))]);
        format!("{{\nadmin off\nauto_https off\n}}\n{site}\n")
    }
    let program = |config| Program {
        binary: "caddy",
        arguments: &["run", "--config", "config", "--adapter", "caddyfile", "--watch"],
        reload_signal: None,
        config,
    };
    let simple = program(|ports, upstream| config(blocks("caddyfile")[0], ports, upstream));
    check(&simple, OnReload::Closes, None).await;
    check(&simple, OnReload::Closes, Some("unix/PATH")).await;

    let version = std::process::Command::new("caddy").arg("version").output().expect("caddy is installed");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let mut numbers =
        version.trim_start_matches('v').split('.').map_while(|number| number.parse::<u32>().ok());
    if (numbers.next(), numbers.next()) < (Some(2), Some(7)) {
        eprintln!("Caddy {} has no stream_close_delay, so that is not tested", version.trim());
        return;
    }
    let delayed = program(|ports, upstream| config(blocks("caddyfile")[1], ports, upstream));
    check(&delayed, OnReload::Keeps, None).await;
}

#[tokio::test]
async fn haproxy() {
    const SOCKET: &str = "unix@PATH";
    fn config(ports: &[u16], upstream: &str) -> String {
        let [block] = blocks("haproxy").try_into().expect("one haproxy block");
        let bind: Vec<String> = ports.iter().map(|port| format!("bind 127.0.0.1:{port}")).collect();
        let bind = bind.join("\n    ");
        adapt(block, &[("127.0.0.1:3000", upstream), ("bind :80", &bind), ("10m", "1s")]) + "\n"
    }
    let program = Program {
        binary: "haproxy",
        arguments: &["-W", "-f", "config"],
        reload_signal: Some("USR2"),
        config,
    };
    check(&program, OnReload::Closes, None).await;
    check(&program, OnReload::Closes, Some(SOCKET)).await;
}

#[tokio::test]
async fn apache() {
    const SOCKET: &str = "unix:PATH|http://localhost";
    fn config(ports: &[u16], upstream: &str) -> String {
        let [block] = blocks("apache").try_into().expect("one apache block");
        let upstream = if upstream.contains("://") { upstream.into() } else { format!("http://{upstream}") };
        let block = adapt(block, &[("http://127.0.0.1:3000", &upstream)]);
        let modules: String = ["mpm_event", "authz_core", "proxy", "proxy_http"]
            .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
            .concat();
        let listen: String = ports.iter().map(|port| format!("Listen 127.0.0.1:{port}\n")).collect();
        format!(
            "{modules}DefaultRuntimeDir .\nPidFile pid\nServerName localhost\nErrorLog /dev/stderr\nUser www-data\n\
             Group www-data\n{listen}{block}\n"
        )
    }
    let program = Program {
        binary: "apache2",
        arguments: &["-D", "FOREGROUND", "-d", ".", "-f", "config"],
        reload_signal: Some("USR1"),
        config,
    };
    check(&program, OnReload::Keeps, None).await;
    check(&program, OnReload::Keeps, Some(SOCKET)).await;
}

/// What a proxy does to WebSockets when it reads its configuration again.
#[derive(PartialEq)]
enum OnReload {
    Closes,
    Keeps,
}

/// `socket` is how the proxy names a unix socket at PATH. Without it, the proxy uses TCP.
async fn check(program: &Program, on_reload: OnReload, socket: Option<&str>) {
    let max = MAX_PER_IP.to_string();
    let flags = ["--path", "/chat", "--trusted-proxy", "127.0.0.1", "--resume-window", "5m"];
    let file = std::env::temp_dir().join(format!("chat-rooms-{}-{}", program.binary, std::process::id()));
    let listen = format!("unix:{}", file.display());
    // The proxy is another user.
    let more = ["--max-connections-per-ip", &max, "--listen", &listen, "--socket-mode", "666"];
    let server = Standalone::start(&[&flags[..], &more].concat()).await;
    let upstream = match socket {
        Some(socket) => socket.replace("PATH", &file.display().to_string()),
        None => server.address().to_string(),
    };
    let mut proxy = Proxy::start(program, upstream).await;
    check_page(proxy.address()).await;

    let mut direct = enter(server.address(), "direct").await;
    let mut proxied = enter(proxy.address(), "proxied").await;
    until(&mut direct, |event| matches!(event, ClientEvent::Enter(frame) if frame.name() == Some("proxied")))
        .await;
    check_chat(&mut direct, &mut proxied).await;

    proxy.reload().await;
    if on_reload == OnReload::Closes {
        until(&mut proxied, |event| matches!(event, ClientEvent::State(ClientState::Reconnecting { .. })))
            .await;
        until(&mut proxied, |event| matches!(event, ClientEvent::Entered { resumed: true, .. })).await;
    }
    // The other member has not noticed.
    check_chat(&mut direct, &mut proxied).await;
    check_page(proxy.address()).await;

    check_addresses(proxy.address()).await;
    // A killed server leaves it behind.
    let _ = std::fs::remove_file(file);
}

/// The page and its script, and the client for other pages.
async fn check_page(address: SocketAddr) {
    let page = get(address, "/chat").await;
    assert!(page.contains("src=\"?page.js\""), "{page:?}");
    for path in ["/chat?page.js", "/chat/chat-rooms.js"] {
        let script = get(address, path).await;
        assert!(script.contains("function connect("), "{path}: {script:?}");
    }
}

/// Two members hear each other, and nobody enters or leaves meanwhile.
async fn check_chat(one: &mut Client, other: &mut Client) {
    for message in ["there", "and back"] {
        let sent = one.sender().send(message);
        for member in [&mut *one, &mut *other] {
            let is_frame = |event: &_| !matches!(event, ClientEvent::State(_) | ClientEvent::Presence(_));
            let event = until(member, is_frame).await;
            let ClientEvent::Message(frame) = event else { panic!("{event:?}") };
            assert_eq!((frame.message().as_str(), frame.num()), (Some(message), Some(2)));
        }
        timeout(PATIENCE, sent).await.expect("in time").expect("it is acknowledged");
        std::mem::swap(one, other);
    }
}

/// Each client has its own address, whatever it writes into the header.
async fn check_addresses(proxy: SocketAddr) {
    let mut open = Vec::new();
    for n in 0..MAX_PER_IP {
        open.push(upgrade(proxy, [127, 0, 0, 2], &format!("192.0.2.{n}"), "101").await);
    }
    upgrade(proxy, [127, 0, 0, 2], "192.0.2.77", "429").await;
    upgrade(proxy, [127, 0, 0, 3], "127.0.0.2", "101").await;
}

async fn enter(address: SocketAddr, name: &str) -> Client {
    let client = Client::connect(format!("ws://{address}/chat")).name(name).room("tea");
    let mut client = timeout(PATIENCE, client).await.expect("in time").expect("it enters");
    until(&mut client, |event| matches!(event, ClientEvent::Enter(frame) if frame.is_own())).await;
    client
}

/// Takes events up to this one.
async fn until(client: &mut Client, is_it: impl Fn(&ClientEvent) -> bool) -> ClientEvent {
    let mut seen = Vec::new();
    loop {
        let event = timeout(PATIENCE, client.recv()).await;
        let event = event.unwrap_or_else(|_| panic!("not among {seen:#?}")).expect("the client stays");
        if is_it(&event) {
            return event;
        }
        seen.push(event);
    }
}

/// The body of an answer with status 200.
async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the proxy accepts");
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("the proxy reads");
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("the head ends");
    assert_eq!(head.split(' ').nth(1), Some("200"), "{path}: {head}");
    body.to_owned()
}

/// A WebSocket handshake from this address, with a forged header. Its answer must have this status.
async fn upgrade(proxy: SocketAddr, from: [u8; 4], forged: &str, status: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from((from, 0))).expect("the address is local");
    let mut stream = socket.connect(proxy).await.expect("the proxy accepts");
    let request = format!(
        "GET /chat HTTP/1.1\r\nHost: {proxy}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         X-Forwarded-For: {forged}\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("the proxy reads");
    let mut start = *b"HTTP/1.1 101";
    timeout(PATIENCE, stream.read_exact(&mut start)).await.expect("in time").expect("an answer");
    assert_eq!(String::from_utf8_lossy(&start), format!("HTTP/1.1 {status}"), "from {from:?}");
    stream
}
