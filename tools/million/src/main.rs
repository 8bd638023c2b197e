//! Holds a million connections in one process, and measures what they cost:
//!
//! ```sh
//! cargo run --release -p million
//! cargo run --release -p million -- --sockets 19000   # the kernel's part; needs `ulimit -n` of 19,100
//! ```
//!
//! The clients are in the same process, without sockets or pipes. They look at what the server writes immediately, and
//! prepare what it reads. Their own memory is allocated before they connect, so all memory that is allocated when they
//! connect is the server's. Everything runs on one thread, so the CPU time includes the clients.
//!
//! Each client checks the order of what it receives, and answers heartbeats. The run checks how many enters, leaves,
//! messages and broadcasts the clients have received, that sessions were resumed without a gap, and that the server has
//! freed everything at the end. If there is a fault, the exit code is 1.
//!
//! `--sockets` connects over TCP from a second process, and reads from `/proc` what the kernel has allocated.

mod client;
mod frames;
mod kernel;
mod measure;
mod options;
mod run;
mod sockets;
mod tally;

use std::error::Error;
use std::process::ExitCode;

use crate::client::Wire;
use crate::options::Options;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    match Options::read().and_then(|options| measure_all(&options)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(faults) => {
            println!("{faults} faults");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("million: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the number of faults.
fn measure_all(options: &Options) -> Result<usize, Failure> {
    if let (Some(count), Some(address)) = (options.sockets, options.connect) {
        return sockets::be_clients(options, address, count).map(|()| 0);
    }
    if let Some(count) = options.sockets {
        return sockets::run(options, count);
    }
    let mut faults = 0;
    if options.has_plain() {
        faults += run::run(options, Wire::Plain)?;
    }
    if options.has_v1() {
        faults += run::run(options, Wire::V1)?;
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn options(arguments: &[&str]) -> Result<Options, Failure> {
        Options::try_parse_from([&["million"], arguments].concat())
            .map_err(Into::into)
            .and_then(Options::checked)
    }

    #[test]
    fn a_small_run_has_no_fault() {
        let options = options(&[
            "--clients=600",
            "--members=3",
            "--heartbeat=200ms",
            "--resumed=200",
            "--resume-over=20ms",
            "--drain=20ms",
        ]);
        assert_eq!(measure_all(&options.unwrap()).unwrap(), 0);
    }

    #[test]
    fn rooms_are_full() {
        assert!(options(&["--clients=600", "--members=7"]).is_err());
        assert!(options(&["--clients=0"]).is_err());
        assert_eq!(options(&["--clients=600", "--members=6"]).unwrap().resumed(), 600);
    }
}
