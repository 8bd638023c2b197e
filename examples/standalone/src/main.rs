//! A chat server with its page: `cargo run -p standalone`, then open the address that it prints in
//! two tabs. `--help` lists the flags; each can also be set in the environment.

mod admin;
mod check;
#[cfg(feature = "store")]
mod database;
mod given;
#[cfg(feature = "jwt")]
mod jwt;
mod listen;
mod logging;
mod nodes;
mod open_files;
mod options;
mod probes;
#[cfg(feature = "redis")]
mod redis;
mod server;
mod settings;
mod signals;
mod site;
mod sockets;
mod store;
mod tokens;

use std::error::Error;

use hyper_util::service::TowerToHyperService;
use tower::ServiceBuilder;
use tower_chat_rooms::{ChatRooms, ChatRoomsService};

use crate::admin::Admin;
use crate::check::check;
use crate::options::Options;
use crate::probes::Probes;
use crate::server::Server;
use crate::signals::StopSignals;
use crate::site::Site;

#[tokio::main]
async fn main() {
    let options = Options::read();
    options.logging.init();
    if let Err(error) = run(options).await {
        if tracing::enabled!(tracing::Level::ERROR) {
            tracing::error!("{error}");
        } else {
            eprintln!("standalone: {error}");
        }
        std::process::exit(1);
    }
}

async fn run(options: Options) -> Result<(), Box<dyn Error + Send + Sync>> {
    if let Some(address) = options.check {
        check(address)?;
        options.store.check().await?;
        return Ok(());
    }
    let rooms = options.chat_rooms().await?;
    let layer = options.layer(&rooms)?;
    let path = layer.path().to_owned();
    let signals = StopSignals::new()?;
    let listeners = options.listen.listen().await?;
    let probes = options.metrics.listen(options.listen.socket_mode()).await?;
    let urls: Vec<String> = listeners.iter().map(|listener| listener.url(&path)).collect();
    let admin = options.admin(&rooms).await?;
    for url in &urls {
        println!("chat rooms on {url}");
    }
    for line in admin.iter().flat_map(Admin::describe) {
        println!("{line}");
    }
    for listener in &probes {
        println!("metrics on {}", listener.url("/metrics"));
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = urls.join(", "),
        path,
        auth = options.auth(),
        options = options.given(),
        open_files_limit = open_files::limit(),
        "started"
    );

    let site = Site::new(&path, &rooms);
    let service = TowerToHyperService::new(ServiceBuilder::new().layer(layer).service(site));
    let server = Server::new(listeners, service, &options.http_limits());
    let probes = Server::new(probes, Probes::new(&rooms), &options.http_limits());
    // These are answered until the end.
    let serving = probes.run_until(run_until_stopped(&options, &rooms, server, signals));
    match admin {
        Some(admin) => admin.serve_until(options.http_limits(), serving).await,
        None => serving.await,
    }
    probes.stop().await;
    Ok(())
}

/// Serves clients until the process is told to stop, and stops.
async fn run_until_stopped(
    options: &Options,
    rooms: &ChatRooms,
    server: Server<TowerToHyperService<ChatRoomsService<Site>>>,
    mut signals: StopSignals,
) {
    server.run_until(signals.next()).await;
    let drain = options.drain();
    let begun = if drain.is_some() { "draining" } else { "shutting down" };
    println!("{begun}; a second signal ends it immediately");
    let stop = async {
        if let Some(drain) = drain {
            // Load balancers still ask for the health, and clients are told to go elsewhere.
            server.run_until(async { _ = rooms.drain(drain).await }).await;
        }
        tokio::join!(server.stop(), rooms.shutdown());
    };
    tokio::select! {
        () = stop => {}
        () = signals.next() => {
            let connections = rooms.stats().connections;
            tracing::warn!(connections, "ended by a second signal; some connections were not closed");
        }
    }
}
