//! Without a mouse.

use crate::devtools::Browser;
use crate::page::Page;
use crate::server::Server;
use crate::tab::{Key, Tab};

#[tokio::test]
async fn one_can_enter_talk_and_leave_by_keyboard_alone() {
    let (server, browser) = (Server::start().await, Browser::new().await);
    let page = Page::open(&browser, &server).await;

    assert_eq!(focused(&page).await, "name", "a new page waits for a name");
    page.tab.insert("Ann").await;
    tab_to(&page, "room", Key::Tab).await;
    page.tab.insert("tea").await;
    tab_to(&page, "enter", Key::Tab).await;
    page.tab.press(Key::Enter).await;
    page.until_state("online").await;

    assert_eq!(focused(&page).await, "input", "who has entered can write");
    page.tab.insert("by keyboard").await;
    page.tab.press(Key::Enter).await;
    page.until_texts(&["You joined as Ann", "Ann: by keyboard"]).await;
    page.tab.insert("by its button").await;
    tab_to(&page, "send", Key::Tab).await;
    page.tab.press(Key::Enter).await;
    page.until_text("Ann: by its button").await;

    tab_to(&page, "leave", Key::ShiftTab).await;
    page.tab.press(Key::Enter).await;
    page.until_state("closed").await;

    assert_eq!(focused(&page).await, "enter", "who has left can come back");
    page.tab.press(Key::Enter).await;
    page.until_state("online").await;
    page.until_texts(&["You joined as Ann"]).await;
    page.assert_no_complaints().await;
}

async fn focused(page: &Page) -> String {
    let id = page.value("document.activeElement.id").await;
    id.as_str().expect("an id is a text").to_owned()
}

/// Presses the key until this element has the focus.
async fn tab_to(page: &Page, id: &str, key: Key) {
    let mut passed = Vec::new();
    while passed.len() < 12 {
        page.tab.press(key).await;
        let now = focused(page).await;
        if now == id {
            return;
        }
        passed.push(now);
    }
    panic!("the focus never came to {id}, but to {passed:?}");
}
