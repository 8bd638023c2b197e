//! A chat server with its page: `cargo run -p standalone`, then open the address that it prints in
//! two tabs. `--help` lists the flags; each can also be set in the environment.

mod check;
#[cfg(feature = "jwt")]
mod jwt;
#[cfg(feature = "redis")]
mod nodes;
mod options;
mod server;
mod settings;
mod signals;
mod site;
mod sockets;
mod tokens;

use std::error::Error;

use clap::Parser;
use tower::ServiceBuilder;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::check::check;
use crate::options::Options;
use crate::server::{Server, listen};
use crate::signals::StopSignals;
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
    if let Some(address) = options.check {
        return Ok(check(address)?);
    }
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry().with(log).with(options.log_filter()?).init();
    let rooms = options.chat_rooms().await?;
    let mut signals = StopSignals::new()?;
    let listener = listen(options.listen).map_err(|e| {
        format!("can't listen on {}: {e}; choose another address with --listen", options.listen)
    })?;
    println!("chat rooms on http://{}{}", listener.local_addr()?, options.path);

    let site = Site::new(&options.path, &rooms);
    let service = ServiceBuilder::new().layer(rooms.layer(&options.path)).service(site);
    let server = Server::new(listener, service, &options.http_limits());
    server.run_until(signals.next()).await;

    println!("draining; a second signal ends it immediately");
    tokio::select! {
        _ = async { tokio::join!(server.drain(), rooms.shutdown()) } => {}
        () = signals.next() => {}
    }
    Ok(())
}
