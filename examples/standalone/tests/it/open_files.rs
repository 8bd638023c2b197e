//! More clients than the process may have file descriptors.

use std::process::Stdio;

use tokio::process::Command;
use tokio::time::{Instant, timeout};

use crate::standalone::Standalone;
use crate::{PATIENCE, try_upgrade};

#[tokio::test]
async fn without_file_descriptors_clients_are_refused_until_there_are_some_again() {
    let mut command = Command::new("sh");
    let script = r#"ulimit -n 40; exec "$0" "$@""#;
    command.args(["-c", script, env!("CARGO_BIN_EXE_standalone")]).args(["--listen", "127.0.0.1:0"]);
    command.args(["--max-connections-per-ip", "0", "--heartbeat", "1h", "--enter-timeout", "1h"]);
    command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let start = Instant::now();
    let mut server = Standalone::launch(&mut command).await;

    let (mut open, mut refused) = (Vec::new(), 0);
    while refused < 50 {
        match try_upgrade(&server).await {
            Some((stream, status)) if status == "101" => open.push(stream),
            Some((_, status)) => {
                assert_eq!(status, "503");
                refused += 1;
            }
            // The answer was lost with the connection.
            None => {}
        }
        assert!(open.len() < 40);
    }
    assert!(!open.is_empty());

    drop(open);
    let recovered = async { while try_upgrade(&server).await.is_none_or(|(_, status)| status != "101") {} };
    timeout(PATIENCE, recovered).await.expect("it accepts connections again");

    server.signal("TERM");
    let (mut lines, most) = (Vec::new(), 1 + start.elapsed().as_secs() / 10);
    while let Some(line) = server.next_log().await {
        lines.push(line);
    }
    assert!(
        lines.iter().any(|line| line.contains("started") && line.contains("open_files_limit=40")),
        "{lines:?}"
    );
    let about = lines.iter().filter(|line| line.contains("ulimit -n")).count() as u64;
    assert!((1..=most).contains(&about), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("accept failed")), "{lines:?}");
}
