//! The list of members.

use serde_json::json;
use tower_chat_rooms::{Access, ChatRooms, Denied, EnterRequest, Presence};

use crate::bidi::Firefox;
use crate::devtools::Browser;
use crate::firefox;
use crate::host::Host;
use crate::page::Page;
use crate::server::Server;
use crate::tab::Tab;

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
async fn members_are_still_away_after_a_restart() {
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

#[tokio::test]
async fn a_large_room_shows_only_how_many_there_are() {
    let host = Host::start(ChatRooms::builder().presence(Presence::Count)).await;
    let browser = Browser::new().await;
    let (ann, bob) = (enter(&host, &browser, "Ann").await, enter(&host, &browser, "Bob").await);
    for page in [&ann, &bob] {
        page.until_count(2).await;
        page.until_members(&[]).await;
        let note = "document.querySelector('#members-note').textContent";
        page.tab.until(&format!("{note} === 'This room is too large to show everyone.'")).await;
    }
    bob.say("hello").await;
    ann.until_texts(&["You joined as Ann", "Bob: hello"]).await;
    ann.assert_no_complaints().await;
}

#[tokio::test]
async fn the_page_shows_what_the_host_says_about_members() {
    let host = Host::start(ChatRooms::builder().policy(access)).await;
    let browser = Browser::new().await;
    let boss = enter(&host, &browser, "Boss").await;
    let guest = enter(&host, &browser, "Guest").await;
    let ghost = enter(&host, &browser, "Ghost").await;

    for page in [&boss, &guest] {
        page.until_count(2).await;
        let details = "[...document.querySelectorAll('#members .detail')].map(e => e.textContent).join()";
        page.tab.until(&format!("['Owner,', ',Owner'].includes({details})")).await;
    }
    guest.until_members(&["Guest (you)", "Boss"]).await;
    ghost.until_members(&["Boss", "Guest"]).await;

    let cannot_write =
        "document.querySelector('#input').readOnly && document.querySelector('#send').disabled";
    assert_eq!(guest.value(cannot_write).await, true);
    boss.say("Welcome").await;
    guest.until_text("Boss: Welcome").await;
    ghost.until_text("Boss: Welcome").await;
    boss.until_texts(&["You joined as Boss", "Guest joined", "Boss: Welcome"]).await;
}

#[tokio::test]
async fn the_page_shows_frames_that_concern_no_room() {
    let host = Host::start(ChatRooms::builder()).await;
    let browser = Browser::new().await;
    let ann = enter(&host, &browser, "Ann").await;
    host.rooms()
        .broadcast(&json!({"event": "notice", "message": "We close soon"}))
        .await
        .expect("it is a frame");
    ann.until_texts(&["You joined as Ann", "We close soon"]).await;
}

fn access(request: &EnterRequest<'_>) -> Result<Access, Denied> {
    let access = Access::member();
    Ok(match request.name().as_str() {
        "Boss" => access.info(&json!({"title": "Owner"})).map_err(|e| Denied::new(e.to_string()))?,
        "Guest" => access.read_only(),
        "Ghost" => access.hidden(),
        _ => access,
    })
}

async fn enter(host: &Host, browser: &Browser, name: &str) -> Page {
    let page = Page::open_at(browser, &format!("http://{}/talk", host.address())).await;
    page.enter(name, "tea").await;
    page
}
