//! Names and texts that would like to be more than text.

use crate::devtools::Browser;
use crate::page::Page;
use crate::server::Server;

const IMAGE: &str = "<img src=x onerror=\"window.broken=1;alert(1)\">";
const SCRIPT: &str = "<script>window.broken=1;alert(2)</script>";

#[tokio::test]
async fn markup_is_shown_as_text_and_runs_nothing() {
    let (server, browser) = (Server::start().await, Browser::new().await);
    let ann = Page::enter_new(&browser, &server, "Ann", SCRIPT).await;
    let bob = Page::enter_new(&browser, &server, IMAGE, SCRIPT).await;
    bob.say(IMAGE).await;
    bob.leave().await;
    ann.until_text(&format!("{IMAGE} left")).await;
    bob.enter(SCRIPT, SCRIPT).await;
    bob.say(SCRIPT).await;

    let expected = [
        "You joined as Ann".to_owned(),
        format!("{IMAGE} joined"),
        format!("{IMAGE}: {IMAGE}"),
        format!("{IMAGE} left"),
        format!("{SCRIPT} joined"),
        format!("{SCRIPT}: {SCRIPT}"),
    ];
    ann.until_texts(&expected.each_ref().map(String::as_str)).await;
    bob.until_text(&format!("{SCRIPT}: {SCRIPT}")).await;
    for page in [&ann, &bob] {
        assert_eq!(page.value("document.querySelector('#title').textContent").await, SCRIPT);
        assert_eq!(page.value("document.querySelectorAll('main img, main script').length").await, 0);
        assert_eq!(page.value("typeof window.broken").await, "undefined");
        page.assert_no_complaints().await;
    }
}

#[tokio::test]
async fn names_of_the_language_itself_are_names() {
    let (server, browser) = (Server::start().await, Browser::new().await);
    let ann = Page::enter_new(&browser, &server, "__proto__", "constructor").await;
    let bob = Page::enter_new(&browser, &server, "{name} $&", "constructor").await;
    bob.say("{message} $1").await;

    ann.until_texts(&["You joined as __proto__", "{name} $& joined", "{name} $&: {message} $1"]).await;
    bob.until_texts(&["You joined as {name} $&", "{name} $&: {message} $1"]).await;
    assert_eq!((ann.count().await, bob.count().await), (2, 2));
}
