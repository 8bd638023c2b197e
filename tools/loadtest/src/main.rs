//! A load generator for chat rooms: throughput, latency and losses.
//!
//! `cargo run --release -p loadtest` loads a server in this process, and
//! `cargo run --release -p loadtest -- --url ws://127.0.0.1:3000/` one that is running. `--help` lists
//! the scenarios. The exit code is 1 if anything was lost.

mod client;
mod histogram;
mod options;
mod process;
mod report;
mod run;
mod server;
mod shared;
mod stamp;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use crate::options::Options;
use crate::process::Processes;
use crate::report::Report;
use crate::run::Run;
use crate::server::Server;
use crate::shared::{Shared, Target};

fn main() -> ExitCode {
    let options = Options::read();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(options.threads()).enable_all().build();
    let result = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(measure(options)));
    match result {
        Ok(report) if report.is_clean() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("loadtest: {error}");
            ExitCode::from(2)
        }
    }
}

async fn measure(options: Options) -> Result<Report, Box<dyn Error + Send + Sync>> {
    let (server, uris, processes) = if options.url.is_empty() {
        let server = Server::start(options.heartbeat).await?;
        let uri = format!("ws://{}/", server.address).parse()?;
        (Some(server), vec![uri], vec![std::process::id()])
    } else {
        (None, options.url.clone(), options.pid.clone())
    };
    let mut targets = Vec::new();
    for uri in uris {
        targets.push(Target::resolve(uri, options.allow_remote).await?);
    }
    let shared = Arc::new(Shared::new(options, targets));
    let mut run = Run::new(shared.clone(), Processes(processes));
    let interrupted = tokio::select! {
        () = run.load() => false,
        _ = tokio::signal::ctrl_c() => true,
    };
    run.end().await;
    let report = Report::new(&shared, run.usage, interrupted);
    write!(std::io::stdout(), "{report}")?;
    if let Some(file) = &shared.options.json {
        std::fs::write(file, report.to_json()).map_err(|e| format!("can't write {}: {e}", file.display()))?;
    }
    if let Some(file) = &shared.options.line {
        let mut file = std::fs::File::options()
            .append(true)
            .create(true)
            .open(file)
            .map_err(|e| format!("can't append to {}: {e}", file.display()))?;
        writeln!(file, "{}", report.to_line(&shared.options.tags))?;
    }
    drop(server);
    Ok(report)
}
