//! What everybody does: enter, talk, leave, come back.

use crate::devtools::Browser;
use crate::page::Page;
use crate::server::Server;
use crate::tab::Tab;

#[tokio::test]
async fn two_tabs_hear_each_other_and_themselves_once_and_in_order() {
    let (server, browser) = (Server::start().await, Browser::new().await);
    let ann = Page::enter_new(&browser, &server, "Ann", "tea").await;
    let bob = Page::enter_new(&browser, &server, "Bob", "tea").await;

    ann.say("Hello, Bob").await;
    bob.until_text("Ann: Hello, Bob").await;
    bob.say("Hello, Ann").await;
    ann.until_text("Bob: Hello, Ann").await;
    for n in 1..=5 {
        ann.say(&format!("line {n}")).await;
    }

    let talk = [
        "Ann: Hello, Bob",
        "Bob: Hello, Ann",
        "Ann: line 1",
        "Ann: line 2",
        "Ann: line 3",
        "Ann: line 4",
        "Ann: line 5",
    ];
    ann.until_texts(&[&["You joined as Ann", "Bob joined"][..], &talk].concat()).await;
    bob.until_texts(&[&["You joined as Bob"][..], &talk].concat()).await;
    assert_eq!(ann.own_texts().await, ["Hello, Bob", "line 1", "line 2", "line 3", "line 4", "line 5"]);
    assert_eq!(bob.own_texts().await, ["Hello, Ann"]);
    assert_eq!(ann.draft().await, "");
    ann.assert_no_complaints().await;
    bob.assert_no_complaints().await;
}

#[tokio::test]
async fn the_count_and_the_log_tell_who_comes_and_goes() {
    let (server, browser) = (Server::start().await, Browser::new().await);
    let ann = Page::enter_new(&browser, &server, "Ann", "tea").await;
    assert_eq!(ann.count().await, 1);

    let bob = Page::enter_new(&browser, &server, "Bob", "tea").await;
    ann.until_count(2).await;
    assert_eq!(bob.count().await, 2);

    bob.leave().await;
    ann.until_count(1).await;
    ann.until_texts(&["You joined as Ann", "Bob joined", "Bob left"]).await;
    ann.assert_no_complaints().await;
    bob.assert_no_complaints().await;
}

#[tokio::test]
async fn a_closed_tab_is_out() {
    let (server, browser) = (Server::start().await, Browser::new().await);
    let ann = Page::enter_new(&browser, &server, "Ann", "tea").await;
    let bob = Page::enter_new(&browser, &server, "Bob", "tea").await;
    ann.until_count(2).await;

    bob.tab.goto("about:blank").await;
    ann.until_texts(&["You joined as Ann", "Bob joined", "Bob left"]).await;
    assert_eq!(ann.count().await, 1);
}

#[tokio::test]
async fn who_leaves_can_come_back_under_another_name() {
    let (server, browser) = (Server::start().await, Browser::new().await);
    let ann = Page::enter_new(&browser, &server, "Ann", "tea").await;
    let bob = Page::enter_new(&browser, &server, "Bob", "tea").await;
    bob.leave().await;
    ann.until_count(1).await;
    ann.say("is he gone?").await;

    bob.enter("Rob", "tea").await;
    bob.say("no").await;

    bob.until_texts(&["Ann: is he gone?", "You joined as Rob", "Rob: no"]).await;
    let expected =
        ["You joined as Ann", "Bob joined", "Bob left", "Ann: is he gone?", "Rob joined", "Rob: no"];
    ann.until_texts(&expected).await;
    assert_eq!((ann.count().await, bob.count().await), (2, 2));
}

#[tokio::test]
async fn rooms_do_not_hear_each_other() {
    let (server, browser) = (Server::start().await, Browser::new().await);
    let ann = Page::enter_new(&browser, &server, "Ann", "tea").await;
    let bob = Page::enter_new(&browser, &server, "Bob", "coffee").await;
    let eve = Page::enter_new(&browser, &server, "Eve", "tea").await;

    bob.say("coffee is better").await;
    bob.until_text("Bob: coffee is better").await;
    eve.say("tea is better").await;

    ann.until_texts(&["You joined as Ann", "Eve joined", "Eve: tea is better"]).await;
    eve.until_texts(&["You joined as Eve", "Eve: tea is better"]).await;
    assert_eq!(bob.texts().await, ["You joined as Bob", "Bob: coffee is better"]);
    assert_eq!((ann.count().await, bob.count().await, eve.count().await), (2, 1, 2));
}

#[tokio::test]
async fn no_room_is_a_room_too() {
    let (server, browser) = (Server::start().await, Browser::new().await);
    let ann = Page::enter_new(&browser, &server, "Ann", "").await;
    let bob = Page::enter_new(&browser, &server, "Bob", "").await;
    let eve = Page::enter_new(&browser, &server, "Eve", "tea").await;

    bob.say("anybody here?").await;

    ann.until_texts(&["You joined as Ann", "Bob joined", "Bob: anybody here?"]).await;
    assert_eq!((ann.count().await, eve.count().await), (2, 1));
    assert_eq!(ann.value("document.querySelector('#title').textContent").await, "Main room");
}

#[tokio::test]
async fn without_a_name_nobody_enters() {
    let (server, browser) = (Server::start().await, Browser::new().await);
    let page = Page::open(&browser, &server).await;

    page.submit("  ", "tea").await;

    assert_eq!(page.problem().await, "Please enter a name.");
    assert_eq!(page.state().await, "closed");
    assert_eq!(page.value("document.activeElement.id").await, "name");
}
