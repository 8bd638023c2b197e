//! A reverse proxy as a child process, with a folder and ports of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::PATIENCE;

/// How to run a proxy.
pub(crate) struct Program {
    pub(crate) binary: &'static str,
    /// Arguments to run it in the foreground, in the folder of its configuration file `config`.
    pub(crate) arguments: &'static [&'static str],
    /// The signal by which it reads its configuration again; none if it watches the file.
    pub(crate) reload_signal: Option<&'static str>,
    /// Writes a configuration that listens on these ports of 127.0.0.1 and passes requests on to this address.
    pub(crate) config: fn(&[u16], &str) -> String,
}

pub(crate) struct Proxy<'a> {
    program: &'a Program,
    process: Child,
    folder: PathBuf,
    ports: Vec<u16>,
    upstream: String,
}

impl Proxy<'_> {
    /// Starts a proxy and waits until it accepts connections.
    pub(crate) async fn start(program: &Program, upstream: String) -> Proxy<'_> {
        let ports = vec![free_port().await];
        let id = std::process::id();
        let folder = std::env::temp_dir().join(format!("chat-rooms-{}-{id}-{}", program.binary, ports[0]));
        std::fs::create_dir_all(&folder).expect("a temporary folder can be made");
        write_config(program, &folder, &ports, &upstream);
        let log = std::fs::File::create(folder.join("log")).expect("a log can be made");
        let process = Command::new(find(program.binary))
            .args(program.arguments)
            .current_dir(&folder)
            .env("HOME", &folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log can be shared"))
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|e| panic!("{} does not start: {e}", program.binary));
        let mut proxy = Proxy { program, process, folder, ports, upstream };
        proxy.until_listening(None).await;
        proxy
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        let port = self.ports.last().expect("it has a port");
        SocketAddr::from((Ipv4Addr::LOCALHOST, *port))
    }

    /// Lets it read a configuration with one more port, which becomes its address, and waits until it listens there.
    pub(crate) async fn reload(&mut self) {
        self.ports.push(free_port().await);
        write_config(self.program, &self.folder, &self.ports, &self.upstream);
        self.until_listening(self.program.reload_signal).await;
    }

    /// Waits until it listens on its address. Sends the signal until then, because HAProxy ignores it while it starts.
    async fn until_listening(&mut self, signal: Option<&str>) {
        let address = self.address();
        let listening = async {
            for attempt in 0_u32.. {
                if let (Some(signal), 0) = (signal, attempt % 50) {
                    self.kill(signal, "");
                }
                if TcpStream::connect(address).await.is_ok() {
                    return;
                }
                if let Ok(Some(status)) = self.process.try_wait() {
                    panic!("{} has ended: {status}", self.program.binary);
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(PATIENCE, listening).await.is_err() {
            panic!("{} does not listen on {address}", self.program.binary);
        }
    }

    /// Sends a signal to the process, or to its group with the prefix `-`.
    fn kill(&self, signal: &str, prefix: &str) {
        let Some(id) = self.process.id() else { return };
        let command = format!("kill -s {signal} -- {prefix}{id}");
        let _ = std::process::Command::new("sh").arg("-c").arg(command).status();
    }
}

impl Drop for Proxy<'_> {
    /// Ends the workers as well.
    fn drop(&mut self) {
        self.kill("KILL", "-");
        if std::thread::panicking() {
            let log = std::fs::read(self.folder.join("log")).unwrap_or_default();
            eprintln!("{}: {}", self.program.binary, String::from_utf8_lossy(&log));
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn write_config(program: &Program, folder: &Path, ports: &[u16], upstream: &str) {
    // Written in one step, because a proxy may be watching.
    let (new, path) = (folder.join("config.new"), folder.join("config"));
    std::fs::write(&new, (program.config)(ports, upstream)).expect("the configuration can be written");
    std::fs::rename(new, path).expect("the configuration can be renamed");
}

/// Debian has most of them in /usr/sbin, which is not in every user's PATH.
fn find(binary: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.find_map(|folder| Some(folder.join(binary)).filter(|path| path.is_file()));
    found.unwrap_or_else(|| panic!("{binary} is not installed; tests/all installs it"))
}

async fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("there is a free port");
    listener.local_addr().expect("it is bound").port()
}
