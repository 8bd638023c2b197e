//! After a restart, all clients come back within a moment.

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::PATIENCE;
use crate::standalone::Standalone;

#[tokio::test]
async fn many_clients_can_connect_while_the_server_stalls() {
    let server = Standalone::start(&[]).await;
    server.signal("STOP");

    let mut waiting = Vec::new();
    for n in 0..500 {
        let connected = timeout(PATIENCE, TcpStream::connect(server.address())).await;
        waiting.push(connected.unwrap_or_else(|_| panic!("only {n} connections can wait")));
    }
}
