//! A chat server that stands alone: `cargo run --example standalone`, then open the address
//! that it prints, in two tabs. `--help` lists the flags; each may come from the environment.

mod options;
mod settings;
mod site;
mod tokens;

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_chat_rooms::PeerAddr;

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
    tracing_subscriber::fmt().with_env_filter(options.log_filter()?).with_writer(std::io::stderr).init();
    let (rooms, keys) = options.chat_rooms()?;
    if let Some(keys) = keys {
        tokio::spawn(keys.watch());
    }
    let listener = TcpListener::bind(options.listen).await.map_err(|e| {
        format!("can't listen on {}: {e}; choose another address with --listen", options.listen)
    })?;
    println!("chat rooms on http://{}{}", listener.local_addr()?, options.path);

    let site = Site::new(&options.path, rooms.client_script());
    let service = ServiceBuilder::new().layer(rooms.layer(&options.path)).service(site);
    let mut server = Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
    let open = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop_signal()?);
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Mostly too many open files: those that are open go on, and some will end.
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = &mut stop => break,
        };
        let service = ServiceBuilder::new()
            .map_request(move |request| with_peer(request, peer))
            .service(service.clone());
        let connection = server
            .serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service))
            .into_owned();
        let connection = open.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
    println!("draining; once more to stop at once");
    drop(listener);
    tokio::select! {
        () = async { tokio::join!(rooms.shutdown(), open.shutdown()); } => {}
        () = stop_signal()? => {}
    }
    Ok(())
}

fn with_peer<B>(mut request: http::Request<B>, peer: SocketAddr) -> http::Request<B> {
    request.extensions_mut().insert(PeerAddr(peer));
    request
}

/// Done at Ctrl-C or SIGTERM.
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
