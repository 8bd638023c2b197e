//! Web addresses in messages.

use serde_json::json;

use crate::devtools::Browser;
use crate::page::Page;
use crate::server::Server;

#[tokio::test]
async fn web_addresses_become_links_that_do_not_reveal_this_page() {
    let said = "See https://example.com/teas?kind=green#1, (http://example.org/a_(b)).";
    let links = ["https://example.com/teas?kind=green#1", "http://example.org/a_(b)"];
    let (server, browser) = (Server::start().await, Browser::new().await);
    let page = page_with(said, &browser, &server).await;

    let found = page.value("[...document.querySelectorAll('#log a')].map(a => a.textContent)").await;
    assert_eq!(found, json!(links));
    let safe = "[...document.querySelectorAll('#log a')].every(a => a.href === a.textContent && a.target === '_blank'
        && ['noopener', 'noreferrer', 'nofollow'].every(word => a.relList.contains(word)))";
    assert_eq!(page.value(safe).await, true);
}

#[tokio::test]
async fn nothing_else_becomes_a_link() {
    let said = "javascript:alert(1) data:text/html,x ftp://example.com xhttps://example.com https:// \
                https://bank.example@example.com https://u:p@example.com http://[ //example.com \
                <a href=https:javascript:alert(2)> file:///etc/passwd";
    let (server, browser) = (Server::start().await, Browser::new().await);
    let page = page_with(said, &browser, &server).await;
    assert_eq!(page.value("document.querySelectorAll('#log a').length").await, 0);
}

/// A page that shows this message.
async fn page_with(text: &str, browser: &Browser, server: &Server) -> Page {
    let page = Page::enter_new(browser, server, "Ann", "tea").await;
    page.say(text).await;
    page.until_texts(&["You joined as Ann", &format!("Ann: {text}")]).await;
    page.assert_no_complaints().await;
    page
}
