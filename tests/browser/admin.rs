//! The admin view of the standalone, as an operator uses it.

use serde_json::json;

use crate::devtools::Browser;
use crate::page::Page;
use crate::screenshot::{keep, picture, show};
use crate::server::Server;
use crate::tab::Tab;

const IMAGE: &str = "<img src=x onerror=\"window.broken=1\">";

/// The cells of the table, row by row.
const ROWS: &str = "[...document.querySelectorAll('tbody tr')].map(row => \
                    [...row.cells].map(cell => cell.innerText.trim()))";

/// A server whose admin view allows these actions, and the address of that.
async fn start(allowed: &[&str]) -> (Server, String) {
    let mut flags = vec!["--heartbeat", "5s", "--admin-listen", "127.0.0.1:0"];
    flags.extend(allowed.iter().flat_map(|action| ["--admin-allow", action]));
    let mut server = Server::start_with(&flags).await;
    let line = server.next_line().await;
    let url = line.strip_prefix("admin view on ").and_then(|rest| rest.split(' ').next());
    let url = url.unwrap_or_else(|| panic!("{line}")).to_owned();
    (server, url)
}

/// Waits until the table has these rows, as far as they are given.
async fn until_rows(page: &Page, rows: &[&[&str]]) {
    let expected = json!(rows);
    let matches = format!(
        "(rows => rows.length === {0}.length && {0}.every((row, n) => row.every((text, m) => rows[n][m] === text)))({ROWS})",
        expected
    );
    page.tab.until(&matches).await;
}

/// Clicks on a link or a button with this text.
async fn click_text(page: &Page, text: &str) {
    let find = format!(
        "[...document.querySelectorAll('a, button')].find(e => e.textContent === {} && e.checkVisibility())",
        json!(text)
    );
    page.tab.until(&format!("Boolean({find})")).await;
    page.value(&format!("({find}.dataset.test = 'wanted', null)")).await;
    page.tab.click("[data-test=wanted]").await;
    page.value("(document.querySelectorAll('[data-test]').forEach(e => delete e.dataset.test), null)").await;
}

async fn assert_nothing_but_title_and_note(page: &Page) {
    assert_eq!(page.value("document.querySelector('#problem').hidden").await, true);
    let shown = "[...document.querySelectorAll('main h1, main h2, main button, main dd, main p')]
        .filter(node => node.checkVisibility()).map(node => node.localName)";
    assert_eq!(page.value(shown).await, json!(["h1", "p"]));
}

async fn set_screen(page: &Page, width: u32, height: u32) {
    let screen = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
    page.tab.call("Emulation.setDeviceMetricsOverride", screen).await;
}

#[tokio::test]
async fn an_operator_sees_rooms_and_kicks_a_member() {
    let ((server, url), browser) = (start(&["kick", "close-room"]).await, Browser::new().await);
    let _ann = Page::enter_new(&browser, &server, "Ann", "Tea").await;
    let bob = Page::enter_new(&browser, &server, IMAGE, "Tea").await;
    let zoe = Page::enter_new(&browser, &server, "Zoe", IMAGE).await;
    zoe.say("a secret").await;

    let admin = Page::open_at(&browser, &url).await;
    admin.tab.until("document.querySelector('#health').textContent === 'healthy'").await;
    click_text(&admin, "Rooms").await;
    until_rows(&admin, &[&["Tea", "2", "0", "0"], &[IMAGE, "1", "0", "0"]]).await;
    click_text(&admin, "Room").await;
    until_rows(&admin, &[&[IMAGE, "1"], &["Tea", "2"]]).await;
    assert!(admin.value("location.hash").await.as_str().is_some_and(|hash| hash.contains("sort=id")));
    zoe.say("hi").await;
    click_text(&admin, "Frames/s").await;
    admin
        .tab
        .until("document.querySelector('tbody td:last-child')?.textContent.includes('–') === false")
        .await;

    click_text(&admin, "Tea").await;
    until_rows(&admin, &[&["Ann"], &[IMAGE]]).await;
    let connection = admin.value(&format!("{ROWS}[1][1]")).await;
    let connection = connection.as_str().expect("an id");
    click_text(&admin, connection).await;
    until_rows(&admin, &[&["Tea", IMAGE]]).await;
    assert_eq!(admin.value("document.body.innerText.includes('chat-rooms.v1')").await, true);

    click_text(&admin, "Kick").await;
    assert_eq!(bob.state().await, "online", "it is asked first");
    admin.tab.click("#do").await;
    bob.until_state("closed").await;
    let is_hidden = |id: &str| format!("!document.querySelector('{id}').checkVisibility()");
    for id in ["#online", "#members-panel", "#show-members"] {
        assert_eq!(bob.value(&is_hidden(id)).await, true, "{id} is still shown");
    }
    admin.tab.until("document.querySelector('#notice').textContent.includes('was closed')").await;
    assert_nothing_but_title_and_note(&admin).await;
    assert_eq!(admin.value("document.querySelector('.note').textContent").await, "It has ended.");
    // Time passes faster.
    let count = "(() => {
        globalThis.asked = [];
        const [ask, wait] = [fetch, setTimeout];
        globalThis.fetch = (...given) => (asked.push(given[0]), ask(...given));
        globalThis.setTimeout = (call) => wait(call, 0);
    })()";
    admin.value(count).await;
    click_text(&admin, "Pause").await;
    click_text(&admin, "Resume").await;
    admin.tab.until("asked.length > 10").await;
    assert_eq!(admin.value("asked.filter(url => url.includes('connection')).length").await, 0);
    assert_nothing_but_title_and_note(&admin).await;
    admin.value("history.go(-1)").await;
    until_rows(&admin, &[&["Ann"]]).await;

    click_text(&admin, "Close room").await;
    click_text(&admin, "Cancel").await;
    assert_eq!(admin.value(&format!("{ROWS}.length")).await, 1);
    let shown = "document.querySelectorAll('main img, main script').length + (window.broken ?? 0)";
    assert_eq!(admin.value(shown).await, 0);
    let complaints = admin.tab.complaints().await;
    // The browser reports an answer of 404, which a request has that is under way while the connection is closed.
    assert!(complaints.iter().all(|text| text.contains("404")), "{complaints:#?}");
}

#[tokio::test]
async fn a_connection_that_is_gone_is_not_asked_for_again() {
    let ((_server, url), browser) = (start(&["kick"]).await, Browser::new().await);
    let admin = Page::open_at(&browser, &format!("{url}#connection?id=12345")).await;
    admin.tab.until("document.querySelector('.note')?.textContent.includes('12345 is gone')").await;
    assert_nothing_but_title_and_note(&admin).await;
}

#[tokio::test]
async fn without_a_permission_there_are_no_buttons() {
    let ((server, url), browser) = (start(&[]).await, Browser::new().await);
    let _ann = Page::enter_new(&browser, &server, "Ann", "Tea").await;
    let admin = Page::open_at(&browser, &format!("{url}#room?id=Tea")).await;
    until_rows(&admin, &[&["Ann"]]).await;
    assert_eq!(admin.value("document.querySelectorAll('main button').length").await, 0);
    admin.assert_no_complaints().await;
}

#[tokio::test]
async fn the_page_sends_requests_only_while_it_is_visible() {
    let ((_server, url), browser) = (start(&[]).await, Browser::new().await);
    let admin = Page::open_at(&browser, &url).await;
    admin.tab.until("document.querySelectorAll('dd').length > 5").await;
    // Time passes faster.
    let count = "(() => {
        globalThis.asked = 0;
        const [ask, wait] = [fetch, setTimeout];
        globalThis.fetch = (...given) => (asked++, ask(...given));
        globalThis.setTimeout = (call) => wait(call, 0);
        document.querySelector('[href=\"#rooms\"]').click();
    })()";
    admin.value(count).await;
    admin.tab.until("asked > 10").await;
    admin.hide().await;
    let frames = "(async () => {
        // What was asked before is answered.
        for (let before = -1; before !== asked;) {
            before = asked;
            for (let n = 0; n < 20; n++) await new Promise(requestAnimationFrame);
        }
        const before = asked;
        for (let n = 0; n < 30; n++) await new Promise(requestAnimationFrame);
        return asked - before;
    })()";
    assert_eq!(admin.value(frames).await, 0);
    admin.show().await;
    admin.value("(asked = 0, null)").await;
    admin.tab.until("asked > 10").await;
    click_text(&admin, "Pause").await;
    assert_eq!(admin.value(frames).await, 0);
}

#[tokio::test]
async fn the_page_fits_any_screen() {
    let ((server, url), browser) = (start(&["kick", "close-room", "drain"]).await, Browser::new().await);
    let mut clients = Vec::new();
    let rooms = ["Tea house", "Garden", "incomprehensibilities".repeat(2).as_str()].map(str::to_owned);
    for (name, room) in [("Ann", 0), ("Li Lei", 0), ("Zoe", 1), ("Mo", 0), ("很长的名字很长的名字", 2)]
    {
        clients.push(Page::enter_new(&browser, &server, name, &rooms[room]).await);
    }
    let admin = Page::open_at(&browser, &url).await;
    for (width, height) in [(1200, 800), (400, 800), (320, 640)] {
        set_screen(&admin, width, height).await;
        for (view, selector) in [
            ("overview", "dd"),
            ("rooms", "tbody tr"),
            ("users", ".empty:not([hidden])"),
            ("room?id=Tea+house", "tbody tr"),
            ("connection?id=0", "tbody tr"),
        ] {
            admin.value(&format!("location.hash = '#{view}'")).await;
            admin.tab.until(&format!("document.querySelectorAll('{selector}').length > 0")).await;
            let fits = "document.documentElement.scrollWidth <= innerWidth && innerWidth";
            assert_eq!(admin.value(fits).await, width, "{view} is wider than the screen");
            for scheme in ["light", "dark"] {
                show(&admin, scheme).await;
                let name = view.split('?').next().unwrap_or_default();
                keep(&format!("admin-{name}-{width}-{scheme}"), &picture(&admin).await);
            }
        }
    }
    set_screen(&admin, 1200, 800).await;
    click_text(&admin, "Kick").await;
    keep("admin-confirm", &picture(&admin).await);
}
