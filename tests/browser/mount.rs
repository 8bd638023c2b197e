//! The page at another path than the root.

use crate::devtools::Browser;
use crate::page::Page;
use crate::server::Server;
use crate::tab::Tab;

#[tokio::test]
async fn the_page_works_at_another_path() {
    let (server, browser) = (Server::start_with(&["--path", "/chat"]).await, Browser::new().await);
    assert!(server.url().ends_with("/chat"), "{}", server.url());
    let ann = Page::enter_new(&browser, &server, "Ann", "tea").await;
    let bob = Page::enter_new(&browser, &server, "Bob", "tea").await;

    ann.say("found it").await;

    bob.until_texts(&["You joined as Bob", "Ann: found it"]).await;
    assert_eq!(ann.value("location.pathname").await, "/chat");
    ann.assert_no_complaints().await;
}

#[tokio::test]
async fn the_address_can_be_passed_on() {
    let (server, browser) = (Server::start().await, Browser::new().await);
    let ann = Page::enter_new(&browser, &server, "Ann", "tea & 茶").await;
    let address = ann.value("location.href").await;
    let address = address.as_str().expect("an address is a text");
    assert!(!address.contains("Ann"), "{address}");

    let bob = Page::open_at(&browser, address).await;
    bob.fill("#name", "Bob").await;
    bob.tab.click("#enter").await;

    ann.until_text("Bob joined").await;
    bob.until_texts(&["You joined as Bob"]).await;
}
