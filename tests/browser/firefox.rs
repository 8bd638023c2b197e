//! The main functions of the page in Firefox.

use crate::bidi::{BidiTab, Firefox};
use crate::page::Page;
use crate::proxy::Proxy;
use crate::server::Server;
use crate::tab::Tab;

pub(crate) async fn open(firefox: &Firefox, url: &str) -> Page<BidiTab> {
    let page = Page { tab: firefox.tab().await };
    page.tab.goto(url).await;
    page
}

#[tokio::test]
async fn two_tabs_of_firefox_chat_and_see_each_other() {
    let (server, firefox) = (Server::start().await, Firefox::new().await);
    let ann = open(&firefox, server.url()).await;
    ann.enter("Ann", "tea").await;
    let bob = open(&firefox, server.url()).await;
    bob.enter("Bob", "tea").await;

    ann.say("Hello, Bob").await;
    bob.until_text("Ann: Hello, Bob").await;
    bob.say("Hello, Ann").await;
    ann.until_texts(&["You joined as Ann", "Bob joined", "Ann: Hello, Bob", "Bob: Hello, Ann"]).await;
    ann.until_count(2).await;

    bob.leave().await;
    ann.until_text("Bob left").await;
    ann.assert_no_complaints().await;
    bob.assert_no_complaints().await;
}

#[tokio::test]
async fn firefox_comes_back_after_a_reload_and_after_a_cut() {
    let (server, firefox) =
        (Server::start_with(&["--resume-window", "5m", "--heartbeat", "5s"]).await, Firefox::new().await);
    let proxy = Proxy::start(server.address()).await;
    let url = format!("http://{}/", proxy.address());
    let ann = open(&firefox, &url).await;
    ann.enter("Ann", "tea").await;
    let bob = open(&firefox, server.url()).await;
    bob.enter("Bob", "tea").await;

    proxy.down();
    ann.until_text("Connection lost. Reconnecting…").await;
    bob.say("did you hear this?").await;
    bob.until_text("Bob: did you hear this?").await;
    ann.say("I am away").await;
    proxy.up();
    bob.until_text("Ann: I am away").await;
    ann.until_text("Bob: did you hear this?").await;
    ann.until_text("Ann: I am away").await;

    ann.tab.goto(&url).await;
    ann.until_text("You joined as Ann").await;
    ann.until_text("Bob: did you hear this?").await;
    bob.until_text("Ann left").await;
    assert_eq!(ann.own_texts().await, ["I am away"]);
    ann.until_count(2).await;
}
