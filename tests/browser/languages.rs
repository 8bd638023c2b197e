//! The page speaks English and Chinese, each for itself.

use serde_json::json;

use crate::devtools::Browser;
use crate::page::Page;
use crate::server::Server;
use crate::tab::Tab;

#[tokio::test]
async fn a_chinese_browser_gets_a_chinese_page() {
    let (server, browser) = (Server::start().await, Browser::new().await);
    let li = Page { tab: browser.tab().await };
    li.tab.set_language("zh-CN").await;
    li.tab.goto(server.url()).await;
    assert_eq!(li.value("document.documentElement.lang").await, "zh");
    assert_eq!(li.value("document.querySelector('#enter').textContent").await, "进入房间");

    li.enter("李雷", "茶馆").await;
    let ann = Page::enter_new(&browser, &server, "Ann", "茶馆").await;
    li.say("你好，世界！𠮷野家 🍵").await;
    ann.until_text("李雷: 你好，世界！𠮷野家 🍵").await;
    ann.leave().await;

    li.until_texts(&[
        "你已进入房间，昵称：李雷",
        "Ann 进入了房间",
        "李雷: 你好，世界！𠮷野家 🍵",
        "Ann 离开了房间",
    ])
    .await;
    assert_eq!(li.value("document.querySelector('#online').textContent").await, "1 人在线");
    li.assert_no_complaints().await;
}

#[tokio::test]
async fn the_address_may_choose_the_language() {
    let (server, browser) = (Server::start().await, Browser::new().await);
    let page = Page::open_at(&browser, &format!("{}?lang=zh", server.url())).await;
    assert_eq!(page.value("document.querySelector('#enter').textContent").await, "进入房间");
}

#[tokio::test]
async fn a_browser_without_a_valid_language_gets_a_page() {
    let (server, browser) = (Server::start().await, Browser::new().await);
    let page = Page { tab: browser.tab().await };
    let source = "Object.defineProperty(Navigator.prototype, 'language', { get: () => 'C' })";
    page.tab.call("Page.addScriptToEvaluateOnNewDocument", json!({ "source": source })).await;
    page.tab.goto(server.url()).await;
    assert_eq!(page.value("navigator.language").await, "C");

    page.enter("Ann", "tea").await;
    page.say("hello").await;
    page.until_texts(&["You joined as Ann", "Ann: hello"]).await;
    page.assert_no_complaints().await;
}
