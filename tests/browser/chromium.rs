//! Chromium as a child process: found, started without a window, killed with its last user.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

const FLAGS: [&str; 15] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    // Of the example that makes its own.
    "--ignore-certificate-errors",
    // No tab is in the background here: each stands for somebody who looks at it.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--remote-debugging-port=0",
    "about:blank",
];

/// A cold start on a busy machine.
const START_WITHIN: Duration = Duration::from_secs(60);
const END_WITHIN: Duration = Duration::from_secs(10);

const REMEDY: &str = "these tests need Chromium: install it (Debian, Ubuntu: apt-get install chromium; \
                      Fedora: dnf install chromium), or set CHROMIUM to its binary";

pub(crate) struct Chromium {
    process: Child,
    profile: PathBuf,
    /// Where it speaks the DevTools protocol.
    endpoint: String,
    /// What it and its helpers say.
    stderr: Mutex<Receiver<String>>,
}

impl Chromium {
    /// The one that other tests use already, or a new one.
    pub(crate) fn shared() -> Arc<Chromium> {
        static SHARED: Mutex<Weak<Chromium>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let started = Arc::new(Chromium::start());
            *shared = Arc::downgrade(&started);
            started
        })
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn start() -> Chromium {
        let program = find();
        let profile = new_profile();
        let mut process = Command::new(&program)
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("can't start {}: {e}; {REMEDY}", program.display()));
        let stderr = read_all(process.stderr.take().expect("stderr is a pipe"));
        // From here on it is killed if the start fails.
        let mut chromium = Chromium { process, profile, endpoint: String::new(), stderr: Mutex::new(stderr) };
        chromium.endpoint = chromium.read_endpoint();
        chromium
    }

    fn read_endpoint(&self) -> String {
        let stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let mut said = Vec::new();
        while let Ok(line) = stderr.recv_timeout(START_WITHIN) {
            if let Some(endpoint) = line.strip_prefix("DevTools listening on ") {
                return endpoint.to_owned();
            }
            said.push(line);
        }
        panic!("Chromium didn't start; it said:\n{}", said.join("\n"))
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // Its helpers write to the profile until they end, and stderr ends with the last of them.
        let stderr = self.stderr.get_mut().unwrap_or_else(PoisonError::into_inner);
        while stderr.recv_timeout(END_WITHIN).is_ok() {}
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}

fn find() -> PathBuf {
    if let Some(named) = std::env::var_os("CHROMIUM") {
        return named.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> =
        [PathBuf::from("/usr/bin")].into_iter().chain(std::env::split_paths(&path)).collect();
    NAMES
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("none of {NAMES:?} is in PATH; {REMEDY}"))
}

/// A folder that doesn't exist yet.
fn new_profile() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("chat-browser-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    std::env::temp_dir().join(name)
}

/// The lines of a pipe, which is read to its end so that it never fills up.
fn read_all(pipe: ChildStderr) -> Receiver<String> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let _ = tell.send(line);
        }
    });
    told
}
