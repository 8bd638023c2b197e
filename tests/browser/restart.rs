//! The server ends and starts again: nobody has to do anything.

use tower_chat_rooms::{ChatRooms, SharedBroker};

use crate::devtools::Browser;
use crate::host::Host;
use crate::page::Page;
use crate::server::Server;
use crate::tab::Tab;

#[tokio::test]
async fn both_tabs_survive_a_crash() {
    let (mut server, browser) = (Server::start().await, Browser::new().await);
    let (ann, bob) = two_who_talk(&browser, &server).await;

    server.kill().await;
    down_and_up(&mut server, &ann, &bob, "Connection lost. Reconnecting…").await;
}

#[tokio::test]
async fn both_tabs_survive_a_restart() {
    let (mut server, browser) = (Server::start().await, Browser::new().await);
    let (ann, bob) = two_who_talk(&browser, &server).await;

    server.terminate().await;
    down_and_up(&mut server, &ann, &bob, "The server has closed the connection. Reconnecting…").await;
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_and_found_again() {
    let (server, browser) = (Server::start_with(&["--resume-window", "5m"]).await, Browser::new().await);
    let (ann, bob) = two_who_talk(&browser, &server).await;

    server.freeze();
    for page in [&ann, &bob] {
        // The client asks the server, which is quicker than waiting for a heartbeat that doesn't come.
        page.value("dispatchEvent(new Event('online'))").await;
        page.until_text("Connection lost. Reconnecting…").await;
    }
    ann.say("you there?").await;
    server.thaw();

    for page in [&ann, &bob] {
        page.until_state("online").await;
        page.until_text("Ann: you there?").await;
        page.until_count(2).await;
        let log = page.texts().await;
        assert!(!log.iter().any(|line| line.ends_with(" left")), "{log:?}");
        assert_eq!(log.iter().filter(|line| *line == "Ann: you there?").count(), 1, "{log:?}");
    }
}

#[tokio::test]
async fn who_asks_before_the_server_is_up_gets_in_later() {
    let (mut server, browser) = (Server::start().await, Browser::new().await);
    let ann = Page::open(&browser, &server).await;
    server.kill().await;

    ann.submit("Ann", "tea").await;
    ann.tab.until("document.querySelector('#problem').textContent").await;
    assert_eq!(ann.problem().await, "Can’t reach the server. Trying again…");
    assert_eq!(ann.state().await, "connecting");
    server.start_again().await;

    ann.until_state("online").await;
    ann.until_texts(&["You joined as Ann"]).await;
    assert_eq!(ann.problem().await, "");
}

#[tokio::test]
async fn the_page_tells_an_unavailable_broker_from_an_unreachable_server() {
    let (broker, browser) = (SharedBroker::new(), Browser::new().await);
    let host = Host::start(ChatRooms::builder().broker(broker.node())).await;
    broker.set_available(false);
    let ann = Page::open_at(&browser, &format!("http://{}/talk", host.address())).await;
    ann.submit("Ann", "tea").await;
    ann.tab.until("document.querySelector('#problem').textContent").await;
    assert_eq!(ann.problem().await, "The server can’t let you in right now. Trying again…");
    broker.set_available(true);

    ann.until_state("online").await;
    ann.until_texts(&["You joined as Ann"]).await;
    assert_eq!(ann.problem().await, "");
}

async fn two_who_talk(browser: &Browser, server: &Server) -> (Page, Page) {
    let ann = Page::enter_new(browser, server, "Ann", "tea").await;
    let bob = Page::enter_new(browser, server, "Bob", "tea").await;
    ann.say("one").await;
    bob.until_text("Ann: one").await;
    bob.say("two").await;
    for page in [&ann, &bob] {
        page.until_text("Bob: two").await;
    }
    (ann, bob)
}

/// From the server's end to a chat that goes on.
async fn down_and_up(server: &mut Server, ann: &Page, bob: &Page, notice: &str) {
    for page in [ann, bob] {
        page.until_state("reconnecting").await;
        page.write("half a thought").await;
    }
    server.start_again().await;

    for page in [ann, bob] {
        page.until_state("online").await;
        page.until_count(2).await;
        assert_eq!(page.draft().await, "half a thought");
    }
    ann.say("three").await;
    bob.until_text("Ann: three").await;
    bob.say("four").await;

    for (page, name) in [(ann, "Ann"), (bob, "Bob")] {
        page.until_text("Bob: four").await;
        let mut log = page.texts().await;
        // Of two who come back, the first sees the second.
        log.retain(|line| !line.ends_with(" joined"));
        let welcome = format!("You joined as {name}");
        let gap = "Some messages may be missing here.";
        let expected =
            [&welcome, "Ann: one", "Bob: two", notice, "Reconnected", gap, "Ann: three", "Bob: four"];
        assert_eq!(log, expected);
    }
}
