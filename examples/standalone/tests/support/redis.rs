//! A Redis server for one test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A Redis server on a Unix socket. It writes each command to its disk before it answers, and ends with the test.
pub(crate) struct Redis {
    process: Child,
    folder: PathBuf,
}

#[allow(dead_code, reason = "not every test program ends it")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Data {
    Kept,
    Lost,
}

impl Redis {
    /// Starts a server that keeps its data in this folder.
    pub(crate) fn start(folder: &Path) -> Redis {
        Redis { process: Redis::launch(folder), folder: folder.to_owned() }
    }

    fn launch(folder: &Path) -> Child {
        let binary = std::env::var("CHAT_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        let flags = ["--port", "0", "--unixsocket", "redis", "--save", "", "--appendonly", "yes"];
        let mut command = Command::new(binary);
        command.args(flags).args(["--appendfsync", "always"]).current_dir(folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("redis-server starts")
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}/redis", self.folder.display())
    }

    /// Ends the server as a crash would, and starts it again.
    #[allow(dead_code, reason = "not every test program ends it")]
    pub(crate) fn restart(&mut self, data: Data) {
        self.process.kill().expect("it is running");
        self.process.wait().expect("it can be waited for");
        if data == Data::Lost {
            std::fs::remove_dir_all(self.folder.join("appendonlydir")).expect("it has data");
        }
        self.process = Redis::launch(&self.folder);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
