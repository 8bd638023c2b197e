//! A browser as a child process without a window. It is killed when nothing uses it any more.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A cold start on a busy machine.
const START_WITHIN: Duration = Duration::from_secs(60);
const END_WITHIN: Duration = Duration::from_secs(10);

/// How a browser is found and started.
pub(crate) struct Program {
    /// The possible names of its binary.
    pub(crate) names: &'static [&'static str],
    /// The environment variable that names another binary.
    pub(crate) variable: &'static str,
    /// How to install it.
    pub(crate) remedy: &'static str,
    /// What it prints before its address, once it has started.
    pub(crate) announcement: &'static str,
}

pub(crate) struct BrowserProcess {
    process: Child,
    profile: PathBuf,
    /// Where it can be controlled.
    endpoint: String,
    /// What it and its helper processes print.
    stderr: Mutex<Receiver<String>>,
}

impl BrowserProcess {
    /// Starts it with an empty profile, a folder that `arguments` gets.
    pub(crate) fn start(program: &Program, arguments: impl FnOnce(&Path) -> Vec<String>) -> BrowserProcess {
        let binary = find(program);
        let profile = new_profile();
        let mut process = Command::new(&binary)
            .args(arguments(&profile))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("can't start {}: {e}; {}", binary.display(), program.remedy));
        let stderr = read_all(process.stderr.take().expect("stderr is a pipe"));
        // From here on it is killed if the start fails.
        let mut started =
            BrowserProcess { process, profile, endpoint: String::new(), stderr: Mutex::new(stderr) };
        started.endpoint = started.read_endpoint(program);
        started
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn read_endpoint(&self, program: &Program) -> String {
        let stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let mut said = Vec::new();
        while let Ok(line) = stderr.recv_timeout(START_WITHIN) {
            if let Some(endpoint) = line.strip_prefix(program.announcement) {
                return endpoint.to_owned();
            }
            said.push(line);
        }
        panic!("{} didn't start; it said:\n{}", program.names[0], said.join("\n"))
    }
}

impl Drop for BrowserProcess {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // Its helpers write to the profile until they end, and stderr ends with the last of them.
        let stderr = self.stderr.get_mut().unwrap_or_else(PoisonError::into_inner);
        while stderr.recv_timeout(END_WITHIN).is_ok() {}
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}

fn find(program: &Program) -> PathBuf {
    if let Some(named) = std::env::var_os(program.variable) {
        return named.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> =
        [PathBuf::from("/usr/bin")].into_iter().chain(std::env::split_paths(&path)).collect();
    program
        .names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("none of {:?} is in PATH; {}", program.names, program.remedy))
}

/// A new folder.
fn new_profile() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("chat-browser-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("can't create {}: {e}", folder.display()));
    folder
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
