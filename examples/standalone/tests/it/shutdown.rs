//! SIGTERM and SIGINT end the process soon, whatever is connected.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::standalone::Standalone;
use crate::{connect, upgrade};

#[tokio::test]
async fn it_ends_whatever_is_connected() {
    for signal in ["TERM", "INT"] {
        let timeouts = ["--head-timeout", "1h", "--http-timeout", "1h", "--enter-timeout", "1h"];
        let mut server = Standalone::start(&timeouts).await;
        let mut open = Vec::new();
        for bytes in [
            b"".as_slice(),
            b"P",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n",
        ] {
            open.push(connect(&server, bytes).await);
        }
        // One has requested more than its socket holds, and one never answers the close frame.
        let mut reads_nothing = connect(&server, b"").await;
        let requests = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2_000);
        let _ = timeout(Duration::from_secs(1), reads_nothing.write_all(&requests)).await;
        open.extend([reads_nothing, upgrade(&server).await]);

        server.signal(signal);
        let status = server.wait().await;
        assert!(status.success(), "SIG{signal}: {status}");

        // The port is free at once.
        Standalone::start_at(&server.address().to_string(), &[]).await;
    }
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    for (first, second) in [("TERM", "INT"), ("INT", "TERM")] {
        let mut server = Standalone::start(&["--shutdown-timeout", "1h", "--close-timeout", "1h"]).await;
        let _silent = upgrade(&server).await;
        server.signal(first);
        assert_eq!(server.next_line().await, "shutting down; a second signal ends it immediately");
        // The client has been sent its close frame, and does not answer.
        assert!(timeout(Duration::from_millis(300), server.wait()).await.is_err());
        server.signal(second);
        let status = server.wait().await;
        assert!(status.success(), "{status}");
    }
}
