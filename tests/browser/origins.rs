//! Pages of other origins than the server's.

use serde_json::json;

use crate::devtools::{Browser, DevTab};
use crate::legacy::serve_page;
use crate::server::Server;
use crate::tab::Tab;

/// `open`, or the code with which the connection was closed before it was.
async fn attempt(tab: &DevTab, server: &Server) -> serde_json::Value {
    let attempt = format!(
        "new Promise(done => {{
            const socket = new WebSocket({});
            socket.onopen = () => done('open');
            socket.onclose = event => done(event.code);
        }})",
        json!(server.socket_url())
    );
    tab.eval(&attempt).await.expect("the page lives")
}

#[tokio::test]
async fn a_foreign_page_connects_only_where_it_is_allowed() {
    let browser = Browser::new().await;
    let foreign = serve_page().await;
    let origin = foreign.trim_end_matches('/');
    let tab = browser.tab().await;
    tab.goto(&foreign).await;
    assert_eq!(attempt(&tab, &Server::start().await).await, 1006);
    let other = ["--allow-origin", "https://example.com", "--allow-origin", "http://127.0.0.1"];
    assert_eq!(attempt(&tab, &Server::start_with(&other).await).await, 1006);
    for allowed in [origin, "any"] {
        assert_eq!(attempt(&tab, &Server::start_with(&["--allow-origin", allowed]).await).await, "open");
    }
}
