//! What to listen on: addresses of hosts, unix sockets, and sockets that systemd passes.

mod listener;
#[cfg(unix)]
mod systemd;
mod tcp;
#[cfg(unix)]
mod unix;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

pub(crate) use self::listener::{Listener, Socket};
use crate::options::{LISTENING, OPERATIONS};

/// Connections that can wait to be accepted. With `TcpListener::bind` it would be 128, too few for the clients that
/// come back at the same time after a restart.
const BACKLOG: u32 = 4096;

#[derive(Debug, Args)]
#[command(next_help_heading = LISTENING)]
pub(crate) struct ListenOn {
    /// What to listen on: `HOST:PORT` (all addresses of a name; IPv6 in brackets), `unix:PATH`, or `systemd` for the
    /// sockets of a socket unit (LISTEN_FDS) [repeatable]
    #[arg(
        long,
        env = "CHAT_LISTEN",
        value_delimiter = ',',
        value_name = "ADDRESS",
        default_value = "127.0.0.1:3000"
    )]
    listen: Vec<Listen>,

    /// Permissions of unix sockets, octal; a client, such as a proxy, needs to write
    #[arg(long, env = "CHAT_SOCKET_MODE", value_name = "MODE", default_value = "660", value_parser = mode)]
    socket_mode: u32,
}

#[derive(Debug, Args)]
#[command(next_help_heading = OPERATIONS)]
pub(crate) struct ListenForMetrics {
    /// What to listen on for /metrics (Prometheus), /healthz and /readyz: `HOST:PORT` or `unix:PATH`. Everyone who can
    /// connect can read the metrics [default: none] [repeatable]
    #[arg(
        long,
        env = "CHAT_METRICS_LISTEN",
        value_delimiter = ',',
        value_name = "ADDRESS",
        value_parser = no_systemd
    )]
    metrics_listen: Vec<Listen>,
}

/// One value of `--listen`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listen {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
    Systemd,
}

impl ListenOn {
    /// Listens for clients on everything that the flags name, in this order.
    pub(crate) async fn listen(&self) -> Result<Vec<Listener>, String> {
        listen_on(&self.listen, self.socket_mode, "--listen").await
    }

    /// The permissions of unix sockets.
    pub(crate) fn socket_mode(&self) -> u32 {
        self.socket_mode
    }
}

impl ListenForMetrics {
    /// Listens for Prometheus and for probes.
    pub(crate) async fn listen(&self, socket_mode: u32) -> Result<Vec<Listener>, String> {
        listen_on(&self.metrics_listen, socket_mode, "--metrics-listen").await
    }
}

/// Listens on everything that a flag names.
pub(crate) async fn listen_on(
    listens: &[Listen],
    socket_mode: u32,
    flag: &str,
) -> Result<Vec<Listener>, String> {
    let mut resolved = Vec::new();
    for listen in listens {
        resolved.push(match listen {
            Listen::Tcp { host, port } => {
                tcp::resolve(host, *port).await.map_err(|e| listen.failed(&e, flag))?
            }
            Listen::Unix(_) | Listen::Systemd => Vec::new(),
        });
    }
    let all = resolved.concat();
    let mut listeners = Vec::new();
    for (listen, addresses) in listens.iter().zip(&resolved) {
        let bound = match listen {
            Listen::Tcp { .. } => tcp::bind(addresses, &all),
            #[cfg(unix)]
            Listen::Unix(path) => unix::bind(path, socket_mode).await.map(|listener| vec![listener]),
            #[cfg(unix)]
            Listen::Systemd => systemd::take(),
            #[cfg(not(unix))]
            Listen::Unix(_) | Listen::Systemd => Err(io::ErrorKind::Unsupported.into()),
        };
        listeners.extend(bound.map_err(|e| listen.failed(&e, flag))?);
    }
    Ok(listeners)
}

impl Listen {
    fn failed(&self, error: &io::Error, flag: &str) -> String {
        format!("can't listen on {self}: {error}; choose another address with {flag}")
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Listen, String> {
        if text == "systemd" {
            return Ok(Listen::Systemd);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("the path is missing; write unix:/run/chat.sock".into()),
                path => Ok(Listen::Unix(path.into())),
            };
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err("write a host and a port, such as 127.0.0.1:3000 or localhost:3000".into());
        };
        let Ok(port) = port.parse() else {
            return Err(format!("{port:?} is not a port; write a host and a port, such as localhost:3000"));
        };
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address,
            None if host.contains(':') => {
                return Err("write an IPv6 address in brackets, such as [::1]:3000".into());
            }
            None if host.is_empty() => {
                return Err(format!(
                    "the host is missing; write 0.0.0.0:{port} or [::]:{port} for all addresses"
                ));
            }
            None => host,
        };
        Ok(Listen::Tcp { host: host.to_owned(), port })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Listen::Tcp { host, port } => write!(f, "{host}:{port}"),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
            Listen::Systemd => f.write_str("systemd"),
        }
    }
}

/// An address for operators. The sockets that systemd passes are for clients.
pub(crate) fn no_systemd(text: &str) -> Result<Listen, String> {
    match text.parse()? {
        Listen::Systemd => Err("write a host and a port, such as 127.0.0.1:9100, or unix:PATH".into()),
        listen => Ok(listen),
    }
}

/// Permissions in octal.
fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| "write three octal digits, such as 660 or 666".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_with_ports_or_sockets() {
        for text in [
            "127.0.0.1:3000",
            "localhost:0",
            "[::1]:3000",
            "[fe80::1%2]:80",
            "unix:/run/chat.sock",
            "systemd",
        ] {
            assert_eq!(text.parse::<Listen>().expect("it is valid").to_string(), text);
        }
    }

    #[test]
    fn errors_say_what_to_write() {
        for (text, hint) in [
            ("", "a host and a port"),
            ("localhost", "localhost:3000"),
            ("3000", "127.0.0.1:3000"),
            (":3000", "0.0.0.0:3000"),
            ("::1:3000", "[::1]:3000"),
            ("localhost:http", "\"http\" is not a port"),
            ("localhost:70000", "\"70000\" is not a port"),
            ("http://localhost:3000", "in brackets"),
            ("unix:", "unix:/run/chat.sock"),
        ] {
            let error = text.parse::<Listen>().expect_err("it is not valid");
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!([mode("660"), mode("0600"), mode("777")], [Ok(0o660), Ok(0o600), Ok(0o777)]);
        for text in ["", "888", "1777", "u=rw", "-1"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }
}
