//! Several rooms on one page.

use crate::devtools::Browser;
use crate::page::Page;
use crate::server::Server;
use crate::tab::Tab;

#[tokio::test]
async fn one_page_is_in_several_rooms_and_counts_what_was_not_read() {
    let (server, browser) = (Server::start().await, Browser::new().await);
    let ann = Page::enter_new(&browser, &server, "Ann", "tea").await;
    let bob = Page::enter_new(&browser, &server, "Bob", "tea").await;
    ann.until_text("Bob joined").await;
    ann.join("garden").await;
    ann.until_texts(&["You joined as Ann"]).await;
    assert_eq!(ann.value("location.search").await, "?room=garden");

    bob.say("Where are you?").await;
    bob.say("Hello?").await;
    ann.until_unread("tea", "2").await;
    ann.tab.until("document.title.startsWith('(2) ')").await;

    ann.show_room("tea").await;
    ann.until_unread("tea", "").await;
    ann.until_texts(&["You joined as Ann", "Bob joined", "New", "Bob: Where are you?", "Bob: Hello?"]).await;
    ann.say("In the garden").await;
    ann.until_texts(&[
        "You joined as Ann",
        "Bob joined",
        "Bob: Where are you?",
        "Bob: Hello?",
        "Ann: In the garden",
    ])
    .await;

    ann.tab.click("#leave").await;
    ann.until_room("garden").await;
    bob.until_text("Ann left").await;
    ann.until_state("online").await;
    ann.assert_no_complaints().await;
    bob.assert_no_complaints().await;
}

#[tokio::test]
async fn what_comes_while_the_page_is_hidden_is_unread() {
    let (server, browser) = (Server::start().await, Browser::new().await);
    let ann = Page::enter_new(&browser, &server, "Ann", "tea").await;
    let bob = Page::enter_new(&browser, &server, "Bob", "tea").await;

    ann.hide().await;
    bob.say("Are you there?").await;
    ann.until_text("Bob: Are you there?").await;
    ann.until_unread("tea", "1").await;
    ann.tab.until("document.title.startsWith('(1) ')").await;
    assert_eq!(ann.value("document.querySelector('#elsewhere').hidden").await, true);

    ann.show().await;
    ann.until_unread("tea", "").await;
    ann.tab.until("!document.title.startsWith('(')").await;
    ann.until_texts(&["You joined as Ann", "Bob joined", "New", "Bob: Are you there?"]).await;
}

#[tokio::test]
async fn a_draft_stays_in_its_room() {
    let (server, browser) = (Server::start().await, Browser::new().await);
    let ann = Page::enter_new(&browser, &server, "Ann", "tea").await;
    ann.write("half a thought").await;
    ann.join("garden").await;
    assert_eq!(ann.draft().await, "");
    ann.show_room("tea").await;
    assert_eq!(ann.draft().await, "half a thought");
}

#[tokio::test]
async fn after_a_reload_all_rooms_and_drafts_are_there() {
    let (server, browser) = (Server::start_with(&["--resume-window", "5m"]).await, Browser::new().await);
    let ann = Page::enter_new(&browser, &server, "Ann", "tea").await;
    let bob = Page::enter_new(&browser, &server, "Bob", "tea").await;
    ann.say("before").await;
    bob.until_text("Ann: before").await;
    ann.join("garden").await;
    ann.write("half a thought").await;

    ann.tab.goto(server.url()).await;
    ann.until_room("garden").await;
    assert_eq!(ann.draft().await, "half a thought");
    bob.until_texts(&["You joined as Bob", "Ann: before", "Ann left", "Ann joined"]).await;
    ann.show_room("tea").await;
    ann.until_count(2).await;
    ann.until_texts(&["Ann: before", "You joined as Ann"]).await;
    assert_eq!(ann.own_texts().await, ["before"]);
}

/// The page leaves its rooms on `beforeunload`, because Firefox does not wait for `pagehide`.
#[tokio::test]
async fn a_page_that_is_not_left_after_all_enters_again() {
    let (server, browser) = (Server::start().await, Browser::new().await);
    let ann = Page::enter_new(&browser, &server, "Ann", "tea").await;
    let bob = Page::enter_new(&browser, &server, "Bob", "tea").await;
    ann.write("half a thought").await;

    ann.value("dispatchEvent(new Event('beforeunload', { cancelable: true }))").await;
    bob.until_texts(&["You joined as Bob", "Ann left", "Ann joined"]).await;
    ann.until_state("online").await;
    assert_eq!(ann.draft().await, "half a thought");
    ann.assert_no_complaints().await;
}

#[tokio::test]
async fn a_late_visitor_sees_what_was_said_before() {
    let (server, browser) = (Server::start().await, Browser::new().await);
    let ann = Page::enter_new(&browser, &server, "Ann", "tea").await;
    ann.say("first").await;
    ann.say("second").await;
    ann.until_text("Ann: second").await;

    let bob = Page::enter_new(&browser, &server, "Bob", "tea").await;
    bob.until_texts(&["Ann: first", "Ann: second", "You joined as Bob"]).await;
    let times = bob.value("[...document.querySelectorAll('#log time')].every(e => e.textContent)").await;
    assert_eq!(times, true, "it isn't shown when they were sent");
    bob.until_unread("tea", "").await;
}

#[tokio::test]
async fn members_see_who_is_typing() {
    let (server, browser) = (Server::start().await, Browser::new().await);
    let ann = Page::enter_new(&browser, &server, "Ann", "tea").await;
    let bob = Page::enter_new(&browser, &server, "Bob", "tea").await;

    bob.write("Hel").await;
    ann.tab.until("document.querySelector('#typing').textContent === 'Bob is typing…'").await;
    bob.say("Hello").await;
    ann.until_text("Bob: Hello").await;
    ann.tab.until("document.querySelector('#typing').textContent === ''").await;
}

#[tokio::test]
async fn a_name_that_is_taken_in_another_room_can_be_changed_there() {
    let server = Server::start_with(&["--unique-names", "any-case"]).await;
    let browser = Browser::new().await;
    let _other = Page::enter_new(&browser, &server, "Ann", "garden").await;
    let ann = Page::enter_new(&browser, &server, "Ann", "tea").await;

    ann.try_join("garden").await;
    ann.tab.until("document.querySelector('#join-problem').checkVisibility()").await;
    ann.until_room("tea").await;
    ann.tab.click("#join-other-name").await;
    ann.until_room("garden").await;
    ann.until_texts(&["You joined as Ann 2"]).await;
}
