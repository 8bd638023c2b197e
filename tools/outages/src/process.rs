//! Child processes that are killed, stopped and started again.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::Failure;

/// A process. It ends with this value.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a program in a folder, with its output at the end of a file there.
    pub(crate) fn start(folder: &Path, log: &str, command: &mut Command) -> Result<Process, Failure> {
        let log: File = OpenOptions::new().create(true).append(true).open(folder.join(log))?;
        let child = command
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C must not reach it: the nodes end before Redis.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Process { child })
    }

    /// Ends it as a crash would.
    pub(crate) async fn kill(&mut self) -> Result<(), Failure> {
        Ok(self.child.kill().await?)
    }

    /// Stops it where it is, with all its connections open.
    pub(crate) async fn freeze(&self) -> Result<(), Failure> {
        self.signal("STOP").await
    }

    pub(crate) async fn thaw(&self) -> Result<(), Failure> {
        self.signal("CONT").await
    }

    async fn signal(&self, signal: &str) -> Result<(), Failure> {
        let id = self.child.id().ok_or("it has ended")?;
        Command::new("kill").args(["-s", signal, &id.to_string()]).status().await?;
        Ok(())
    }

    /// Closes its standard input, and waits until it has ended.
    pub(crate) async fn end(&mut self, patience: Duration) -> Result<(), Failure> {
        drop(self.child.stdin.take());
        let status = timeout(patience, self.child.wait()).await.map_err(|_| "it does not end")??;
        if status.success() { Ok(()) } else { Err(format!("it has ended: {status}").into()) }
    }

    /// An error if it has ended.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        match self.child.try_wait()? {
            Some(status) => Err(format!("it has ended: {status}").into()),
            None => Ok(()),
        }
    }

    /// The memory that it uses, in KiB; `None` if the system does not tell.
    pub(crate) fn memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    }
}

/// Debian has some programs in /usr/sbin, which is not in every user's PATH.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders.find_map(|folder| Some(folder.join(name)).filter(|path| path.is_file()))
}
