//! A chat server with its page: `cargo run -p standalone`, then open the address that it prints in
//! two tabs. `--help` lists the flags; each may come from the environment.

#[cfg(feature = "jwt")]
mod jwt;
mod options;
mod settings;
mod site;
mod tokens;

use std::error::Error;
use std::pin::pin;
use std::time::Duration;

use clap::Parser;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceBuilder;
use tower_chat_rooms::PeerAddr;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::options::Options;
use crate::site::Site;

#[tokio::main]
async fn main() {
    let options = Options::parse();
    if let Err(error) = run(options).await {
        eprintln!("standalone: {error}");
        std::process::exit(1);
    }
}

async fn run(options: Options) -> Result<(), Box<dyn Error + Send + Sync>> {
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry().with(log).with(options.log_filter()?).init();
    let rooms = options.chat_rooms()?;
    let listener = TcpListener::bind(options.listen).await.map_err(|e| {
        format!("can't listen on {}: {e}; choose another address with --listen", options.listen)
    })?;
    println!("chat rooms on http://{}{}", listener.local_addr()?, options.path);

    let site = Site::new(&options.path, rooms.client_script());
    let service = ServiceBuilder::new().layer(rooms.layer(&options.path)).service(site);
    let service = TowerToHyperService::new(service);
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
    let (connections, draining) = (TaskTracker::new(), CancellationToken::new());
    let mut stop = pin!(stop_signal()?);
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Mostly too many open files. The open connections go on, and some will end.
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = &mut stop => break,
        };
        let service = service.clone();
        let service = service_fn(move |mut request| {
            request.extensions_mut().insert(PeerAddr(peer));
            service.call(request)
        });
        let connection = server.serve_connection(TokioIo::new(stream), service).with_upgrades();
        let draining = draining.clone();
        connections.spawn(async move {
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = draining.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
    println!("draining; once more to stop at once");
    drop(listener);
    draining.cancel();
    connections.close();
    tokio::select! {
        () = async { tokio::join!(rooms.shutdown(), connections.wait()); } => {}
        () = stop_signal()? => {}
    }
    Ok(())
}

/// Completes at Ctrl-C or SIGTERM.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    Ok(async move {
        #[cfg(unix)]
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    })
}
