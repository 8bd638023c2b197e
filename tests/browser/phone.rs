//! A narrow screen: everything is there, and nothing sticks out.

use serde_json::json;

use crate::devtools::Browser;
use crate::page::Page;
use crate::server::Server;
use crate::tab::Tab;

const WIDTH: u32 = 320;
const HEIGHT: u32 = 568;

#[tokio::test]
async fn everything_fits_a_phone() {
    let (server, browser) = (Server::start().await, Browser::new().await);
    for language in ["en", "zh"] {
        let ann = on_a_phone(&browser, &server, language).await;
        assert_fits(&ann, &["#name", "#room", "#more summary", "#enter"]).await;

        let long = "incomprehensibilities".repeat(2);
        let room = language.to_owned() + &long;
        ann.enter(&long, &room).await;
        let bob = Page::enter_new(&browser, &server, &"很长的名字".repeat(8), &room).await;
        bob.say(&"unbreakable".repeat(30)).await;
        ann.say(&"没有空格的一行字".repeat(40)).await;
        ann.until_count(2).await;
        ann.tab.until("document.querySelectorAll('.bubble').length === 2").await;

        assert_fits(&ann, &["#state", "#online", "#leave", "#input", "#send"]).await;
        let log = "(log => log.scrollWidth <= log.clientWidth)(document.querySelector('#log'))";
        assert_eq!(ann.value(log).await, true, "the log scrolls sideways");
    }
}

async fn on_a_phone(browser: &Browser, server: &Server, language: &str) -> Page {
    let page = Page { tab: browser.tab().await };
    let screen = json!({"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 2, "mobile": true});
    page.tab.call("Emulation.setDeviceMetricsOverride", screen).await;
    page.tab.goto(&format!("{}?lang={language}", server.url())).await;
    page
}

/// Each of these is wholly on the screen, at the top, and large enough to be seen.
async fn assert_fits(page: &Page, selectors: &[&str]) {
    let widths = page.value("[innerWidth, document.documentElement.scrollWidth]").await;
    assert_eq!(widths, json!([WIDTH, WIDTH]), "the page is wider than the screen");
    for selector in selectors {
        let seen = format!(
            "(() => {{
                const node = document.querySelector('{selector}');
                const {{ left, top, right, bottom }} = node.getBoundingClientRect();
                const inside = left >= 0 && top >= 0 && right <= {WIDTH} && bottom <= {HEIGHT};
                const large = right - left >= 24 && bottom - top >= 16;
                const above = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
                return inside && large && node.contains(above) || JSON.stringify([left, top, right, bottom]);
            }})()"
        );
        assert_eq!(page.value(&seen).await, true, "{selector} isn't where it can be seen");
    }
}
