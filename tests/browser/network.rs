//! A network that breaks, hangs and comes back: nobody has to do anything, and nothing is lost.

use std::time::Duration;

use crate::devtools::Browser;
use crate::page::Page;
use crate::proxy::Proxy;
use crate::server::Server;
use crate::tab::Tab;

/// A busy machine may need longer to come back than a seat is kept by default, and its heartbeats
/// may be late.
const PATIENT: &[&str] = &["--resume-window", "5m", "--heartbeat", "5s"];
/// But to find a silent end must not take long.
const ATTENTIVE: &[&str] = &["--resume-window", "5m"];
/// Without seats.
const STRICT: &[&str] = &["--resume-window", "0s", "--heartbeat", "5s"];
const LOST: &str = "Connection lost. Reconnecting…";

#[tokio::test]
async fn a_broken_connection_is_noticed_by_nobody_else() {
    let (server, browser) = (Server::start_with(PATIENT).await, Browser::new().await);
    let (ann, bob, proxy) = two(&browser, &server).await;

    proxy.down();
    ann.until_text(LOST).await;
    bob.say("did you hear this?").await;
    bob.until_text("Bob: did you hear this?").await;
    for text in ["I am away", "for a moment"] {
        ann.say(text).await;
    }
    assert_eq!(ann.pending().await, ["I am away", "for a moment"]);
    assert_eq!(ann.draft().await, "");
    proxy.up();

    let talk = ["Bob: did you hear this?", "Ann: I am away", "Ann: for a moment"];
    bob.until_texts(&[&["You joined as Bob"][..], &talk].concat()).await;
    ann.until_texts(&[&["You joined as Ann", "Bob joined", LOST, "Reconnected"][..], &talk].concat()).await;
    assert_eq!((ann.count().await, bob.count().await), (2, 2));
    assert_eq!(ann.own_texts().await, ["I am away", "for a moment"]);
    ann.leave().await;
    bob.until_text("Ann left").await;
}

#[tokio::test]
async fn a_connection_that_is_only_half_open_is_given_up() {
    let (server, browser) = (Server::start_with(ATTENTIVE).await, Browser::new().await);
    let (ann, bob, proxy) = two(&browser, &server).await;

    proxy.silence();
    ann.say("into the void").await;
    bob.say("is anybody there?").await;
    // The client asks the server, which is quicker than waiting for a heartbeat that doesn't come.
    ann.value("dispatchEvent(new Event('online'))").await;

    bob.until_text("Ann: into the void").await;
    ann.until_text("Bob: is anybody there?").await;
    ann.until_text("Ann: into the void").await;
    let seen = ann.texts().await;
    assert!(seen.contains(&LOST.to_owned()) && seen.contains(&"Reconnected".to_owned()), "{seen:?}");
    assert_eq!(seen.iter().filter(|line| *line == "Ann: into the void").count(), 1, "{seen:?}");
    ann.tab.until("!document.querySelector('#log > [data-kind=pending]')").await;
    assert!(!bob.texts().await.contains(&"Ann left".to_owned()));
}

#[tokio::test]
async fn a_slow_network_is_no_broken_one() {
    let (server, browser) = (Server::start_with(PATIENT).await, Browser::new().await);
    let (ann, bob, proxy) = two(&browser, &server).await;

    proxy.delay(Duration::from_millis(300));
    for n in 1..=3 {
        ann.say(&format!("slow {n}")).await;
        bob.until_text(&format!("Ann: slow {n}")).await;
        ann.until_text(&format!("Ann: slow {n}")).await;
    }

    let talk = ["Ann: slow 1", "Ann: slow 2", "Ann: slow 3"];
    ann.until_texts(&[&["You joined as Ann", "Bob joined"][..], &talk].concat()).await;
    bob.until_texts(&[&["You joined as Bob"][..], &talk].concat()).await;
}

#[tokio::test]
async fn after_the_grace_one_is_out_and_comes_back_with_what_was_missed() {
    let (server, browser) = (Server::start_with(STRICT).await, Browser::new().await);
    let (ann, bob, proxy) = two(&browser, &server).await;

    proxy.down();
    bob.until_text("Ann left").await;
    bob.say("gone?").await;
    bob.until_text("Bob: gone?").await;
    proxy.up();

    bob.until_text("Ann joined").await;
    let missed = ["Ann left", "Bob: gone?"];
    ann.until_texts(&[&["You joined as Ann", "Bob joined", LOST, "Reconnected"][..], &missed].concat()).await;
    ann.until_count(2).await;
}

/// Ann behind a proxy, and Bob who isn't.
async fn two(browser: &Browser, server: &Server) -> (Page, Page, Proxy) {
    let proxy = Proxy::start(server.address()).await;
    let ann = Page::open_at(browser, &format!("http://{}/", proxy.address())).await;
    ann.enter("Ann", "tea").await;
    let bob = Page::enter_new(browser, server, "Bob", "tea").await;
    ann.until_text("Bob joined").await;
    (ann, bob, proxy)
}
