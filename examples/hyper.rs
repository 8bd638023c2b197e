//! Chat rooms as a layer in front of an own service, on plain hyper: requests to `/chat` that
//! mean WebSocket become chat connections, all others go on to the service.
//!
//! `cargo run --example hyper` (`PORT=8080` for another port), then open the address that it
//! prints in two tabs. `curl http://127.0.0.1:3000/chat` shows that plain requests pass through.

use std::convert::Infallible;
use std::error::Error;
use std::pin::pin;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tower::{ServiceBuilder, service_fn};
use tower_chat_rooms::{ChatRooms, PeerAddr};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let rooms = ChatRooms::builder().build()?;
    let service = ServiceBuilder::new().layer(rooms.layer("/chat")).service(service_fn(site));

    let port = std::env::var("PORT").unwrap_or_else(|_| "3000".into());
    let address = format!("127.0.0.1:{port}");
    let listener = TcpListener::bind(&address)
        .await
        .map_err(|e| format!("can't listen on {address}: {e}; choose another port with PORT"))?;
    println!("open http://{} in two tabs; ctrl-c ends it", listener.local_addr()?);

    let mut server = Builder::new(TokioExecutor::new());
    // Without a timer hyper waits for the rest of a request for ever.
    server.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
    let open = GracefulShutdown::new();
    let mut stop = pin!(tokio::signal::ctrl_c());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            stopped = &mut stop => break stopped?,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // One client's bad luck, or too many open files: some of those will end.
                eprintln!("accept failed: {error}");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            eprintln!("{peer}: answers may be late, as TCP_NODELAY can't be set: {error}");
        }
        let service = ServiceBuilder::new()
            .map_request(move |mut request: Request<_>| {
                request.extensions_mut().insert(PeerAddr(peer));
                request
            })
            .service(service.clone());
        // With `serve_connection` instead, every upgrade would be refused with 500.
        let connection = server
            .serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service))
            .into_owned();
        let connection = open.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("{peer}: {error}");
            }
        });
    }

    println!("draining {} chat connections", rooms.stats().connections);
    drop(listener);
    // An upgraded connection is hyper's no more: the rooms end those, `open` the plain ones, which
    // may take their time.
    let _ = tokio::join!(rooms.shutdown(), timeout(Duration::from_secs(5), open.shutdown()));
    Ok(())
}

/// Stands for the host's own application, and never sees a chat connection.
async fn site<B>(request: Request<B>) -> Result<Response<String>, Infallible> {
    let (status, kind, body) = match request.uri().path() {
        "/" => (StatusCode::OK, "text/html; charset=utf-8", PAGE),
        "/chat" => (StatusCode::UPGRADE_REQUIRED, "text/plain", "WebSocket only; a page is at /\n"),
        _ => (StatusCode::NOT_FOUND, "text/plain", "nothing here; a page is at /\n"),
    };
    let mut response = Response::new(body.to_owned());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>chat rooms on hyper</title>
<form><input placeholder="message" autofocus required> <button>send</button></form><pre></pre>
<script>
  const form = document.querySelector("form"), log = document.querySelector("pre");
  const name = prompt("Your name?") || "guest";
  const ws = new WebSocket(location.origin.replace("http", "ws") + "/chat");
  const send = (event, message, more) => ws.send(JSON.stringify({event, message, ...more}));
  ws.onopen = () => send("enter", name, {roomId: "lobby"});
  ws.onclose = e => log.textContent += `closed: ${e.code} ${e.reason}\n`;
  ws.onmessage = ({data}) => {
    if (JSON.parse(data).event === "heartbeat") send("heartbeat", "pong");
    else log.textContent += data + "\n";
  };
  form.onsubmit = e => { e.preventDefault(); send("message", form[0].value); form.reset(); };
</script>"#;
