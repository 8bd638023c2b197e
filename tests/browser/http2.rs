//! The page over TLS: browsers choose HTTP/2, for the page and for the WebSocket.

use crate::devtools::Browser;
use crate::page::Page;
use crate::server::Server;

#[tokio::test]
async fn over_tls_tabs_chat_by_http2() {
    let (mut server, browser) = (Server::start_tls().await, Browser::new().await);
    let ann = Page::enter_new(&browser, &server, "Ann", "tea").await;
    let bob = Page::enter_new(&browser, &server, "Bob", "tea").await;
    // A page, a WebSocket, and the other tab's.
    for _ in 0..2 {
        server.until_printed("HTTP/2.0 GET /").await;
        server.until_printed("HTTP/2.0 CONNECT /").await;
    }

    ann.say("Hello, Bob").await;
    bob.until_text("Ann: Hello, Bob").await;
    bob.say("Hello, Ann").await;
    ann.until_text("Bob: Hello, Ann").await;
    assert_eq!(ann.count().await, 2);
    bob.leave().await;
    ann.until_texts(&["You joined as Ann", "Bob joined", "Ann: Hello, Bob", "Bob: Hello, Ann", "Bob left"])
        .await;
    ann.assert_no_complaints().await;
    bob.assert_no_complaints().await;
}
