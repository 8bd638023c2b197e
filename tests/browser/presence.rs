//! The list of members.

use crate::bidi::Firefox;
use crate::devtools::Browser;
use crate::firefox;
use crate::page::Page;
use crate::server::Server;

#[tokio::test]
async fn the_list_shows_who_is_there_and_who_is_away() {
    let (server, browser) = (Server::start().await, Browser::new().await);
    let bob = Page::enter_new(&browser, &server, "Bob", "tea").await;
    let ann = Page::enter_new(&browser, &server, "Ann", "tea").await;
    ann.until_members(&["Ann (you)", "Bob"]).await;
    bob.until_members(&["Bob (you)", "Ann"]).await;

    let cat = Page::enter_new(&browser, &server, "Cat", "tea").await;
    ann.until_members(&["Ann (you)", "Bob", "Cat"]).await;
    bob.be_away().await;
    ann.until_members(&["Ann (you)", "Cat", "Bob (away)"]).await;
    bob.show().await;
    ann.until_members(&["Ann (you)", "Bob", "Cat"]).await;

    cat.leave().await;
    ann.until_members(&["Ann (you)", "Bob"]).await;
    assert_eq!(ann.value("document.querySelector('#members-count').textContent").await, "2");
    ann.assert_no_complaints().await;
}

#[tokio::test]
async fn each_room_has_its_own_list() {
    let (server, browser) = (Server::start().await, Browser::new().await);
    let ann = Page::enter_new(&browser, &server, "Ann", "tea").await;
    let _bob = Page::enter_new(&browser, &server, "Bob", "tea").await;
    let _cat = Page::enter_new(&browser, &server, "Cat", "garden").await;
    ann.until_members(&["Ann (you)", "Bob"]).await;
    ann.join("garden").await;
    ann.until_members(&["Ann (you)", "Cat"]).await;
    ann.show_room("tea").await;
    ann.until_members(&["Ann (you)", "Bob"]).await;
}

#[tokio::test]
async fn who_is_away_stays_so_after_a_restart() {
    let (mut server, browser) = (Server::start().await, Browser::new().await);
    let ann = Page::enter_new(&browser, &server, "Ann", "tea").await;
    let bob = Page::enter_new(&browser, &server, "Bob", "tea").await;
    bob.be_away().await;
    ann.until_members(&["Ann (you)", "Bob (away)"]).await;

    server.terminate().await;
    server.start_again().await;
    ann.until_text("Reconnected").await;
    ann.until_members(&["Ann (you)", "Bob (away)"]).await;
}

#[tokio::test]
async fn firefox_shows_who_is_there_and_who_is_away() {
    let (server, browser) = (Server::start().await, Firefox::new().await);
    let ann = firefox::open(&browser, server.url()).await;
    ann.enter("Ann", "tea").await;
    let bob = firefox::open(&browser, server.url()).await;
    bob.enter("Bob", "tea").await;
    ann.until_members(&["Ann (you)", "Bob"]).await;
    bob.be_away().await;
    ann.until_members(&["Ann (you)", "Bob (away)"]).await;
    bob.leave().await;
    ann.until_members(&["Ann (you)"]).await;
}
