//! The chat page, as a person uses it.

use serde_json::{Value, json};

use crate::devtools::{Browser, DevTab};
use crate::server::Server;
use crate::tab::{Key, Tab};

pub(crate) struct Page<T = DevTab> {
    pub(crate) tab: T,
}

impl Page {
    /// The server's page in a new tab, in English.
    pub(crate) async fn open(browser: &Browser, server: &Server) -> Page {
        Page::open_at(browser, server.url()).await
    }

    pub(crate) async fn open_at(browser: &Browser, url: &str) -> Page {
        let page = Page { tab: browser.tab().await };
        page.tab.goto(url).await;
        page
    }

    /// Opens the page and enters.
    pub(crate) async fn enter_new(browser: &Browser, server: &Server, name: &str, room: &str) -> Page {
        let page = Page::open(browser, server).await;
        page.enter(name, room).await;
        page
    }
}

impl<T: Tab> Page<T> {
    /// Fills the form, enters, and waits until it has been let in.
    pub(crate) async fn enter(&self, name: &str, room: &str) {
        self.submit(name, room).await;
        self.until_state("online").await;
    }

    /// Fills the form and asks to enter.
    pub(crate) async fn submit(&self, name: &str, room: &str) {
        self.fill("#name", name).await;
        self.fill("#room", room).await;
        self.tab.click("#enter").await;
    }

    /// Replaces what a field holds.
    pub(crate) async fn fill(&self, field: &str, text: &str) {
        let select =
            format!("(f => {{ f.focus(); f.select(); f.value = '' }})(document.querySelector('{field}'))");
        self.value(&select).await;
        self.tab.insert(text).await;
    }

    /// Types a message and sends it by Enter.
    pub(crate) async fn say(&self, text: &str) {
        self.write(text).await;
        self.tab.press(Key::Enter).await;
    }

    /// Types without sending.
    pub(crate) async fn write(&self, text: &str) {
        self.fill("#input", text).await;
    }

    pub(crate) async fn leave(&self) {
        self.tab.click("#leave").await;
        self.until_state("closed").await;
    }

    /// Joins another room, and waits until it is shown.
    pub(crate) async fn join(&self, room: &str) {
        self.try_join(room).await;
        self.until_room(room).await;
    }

    /// Asks to join another room.
    pub(crate) async fn try_join(&self, room: &str) {
        self.open_rooms().await;
        self.fill("#join-room", room).await;
        self.tab.press(Key::Enter).await;
    }

    /// Shows another room that it is in.
    pub(crate) async fn show_room(&self, room: &str) {
        self.open_rooms().await;
        let mark = format!("{}.dataset.test = 'wanted'", room_button(room));
        self.value(&mark).await;
        self.tab.click("[data-test=wanted]").await;
        self.value("delete document.querySelector('[data-test=wanted]').dataset.test").await;
        self.until_room(room).await;
    }

    /// On a small screen, the list of rooms is behind a button.
    async fn open_rooms(&self) {
        let is_closed = "document.querySelector('#show-rooms').checkVisibility() \
                         && !document.querySelector('#rooms-panel').checkVisibility()";
        if self.value(is_closed).await == true {
            self.tab.click("#show-rooms").await;
        }
    }

    pub(crate) async fn until_room(&self, room: &str) {
        self.tab.until(&format!("document.querySelector('#title').textContent === {}", json!(room))).await;
    }

    /// Waits until the list of rooms shows this number of unread messages.
    pub(crate) async fn until_unread(&self, room: &str, count: &str) {
        let badge = format!("{}?.querySelector('.badge').textContent", room_button(room));
        self.tab.until(&format!("{badge} === '{count}'")).await;
    }

    /// Hides the page, as another tab does that is in front of it.
    pub(crate) async fn hide(&self) {
        self.set_hidden(true).await;
    }

    pub(crate) async fn show(&self) {
        self.set_hidden(false).await;
    }

    async fn set_hidden(&self, is_hidden: bool) {
        let hide = format!(
            "(Object.defineProperty(document, 'hidden', {{ value: {is_hidden}, configurable: true }}),
             document.dispatchEvent(new Event('visibilitychange')))"
        );
        self.value(&hide).await;
    }

    /// Hides the page, and lets the time pass after which its user counts as away.
    pub(crate) async fn be_away(&self) {
        self.value("(globalThis.later = setTimeout, setTimeout = (call) => later(call, 0), null)").await;
        self.hide().await;
        self.value("(setTimeout = later, null)").await;
    }

    /// The list of members, line by line: `NAME`, or `NAME (MARK)`.
    pub(crate) async fn until_members(&self, expected: &[&str]) {
        self.tab.until(&format!("JSON.stringify({MEMBERS}) === JSON.stringify({})", json!(expected))).await;
    }

    /// The log, line by line: `NAME: TEXT` for messages, and what the page itself says.
    pub(crate) async fn texts(&self) -> Vec<String> {
        strings(&self.value(TEXTS).await)
    }

    /// The messages that the page shows as one's own, those on their way included.
    pub(crate) async fn own_texts(&self) -> Vec<String> {
        strings(
            &self.value("[...document.querySelectorAll('#log > .own .text')].map(e => e.textContent)").await,
        )
    }

    /// The own messages that are shown as on their way.
    pub(crate) async fn pending(&self) -> Vec<String> {
        strings(
            &self
                .value("[...document.querySelectorAll('#log > [data-kind=pending] .text')].map(e => e.textContent)")
                .await,
        )
    }

    /// The number of people online.
    pub(crate) async fn count(&self) -> u64 {
        self.value("Number(document.querySelector('#online').dataset.num)").await.as_u64().expect("a count")
    }

    pub(crate) async fn state(&self) -> String {
        self.text_of("#state", "dataset.state").await
    }

    /// What waits in the input field to be sent.
    pub(crate) async fn draft(&self) -> String {
        self.text_of("#input", "value").await
    }

    /// Why the form says that one can't enter.
    pub(crate) async fn problem(&self) -> String {
        self.text_of("#problem", "textContent").await
    }

    /// Waits until the log is this, and nothing besides.
    pub(crate) async fn until_texts(&self, expected: &[&str]) {
        self.tab.until(&format!("JSON.stringify({TEXTS}) === JSON.stringify({})", json!(expected))).await;
    }

    /// Waits until the log holds this line.
    pub(crate) async fn until_text(&self, expected: &str) {
        self.tab.until(&format!("{TEXTS}.includes({})", json!(expected))).await;
    }

    pub(crate) async fn until_count(&self, count: u64) {
        self.tab.until(&format!("document.querySelector('#online').dataset.num === '{count}'")).await;
    }

    pub(crate) async fn until_state(&self, state: &str) {
        self.tab.until(&format!("document.querySelector('#state').dataset.state === '{state}'")).await;
    }

    /// Fails if there is anything that a developer would find in red or yellow.
    pub(crate) async fn assert_no_complaints(&self) {
        assert_eq!(self.tab.complaints().await, Vec::<String>::new());
    }

    pub(crate) async fn value(&self, expression: &str) -> Value {
        self.tab.eval(expression).await.unwrap_or_else(|e| panic!("{expression}: {e}"))
    }

    async fn text_of(&self, selector: &str, property: &str) -> String {
        let value = self.value(&format!("document.querySelector('{selector}').{property}")).await;
        value.as_str().expect("a text").to_owned()
    }
}

const TEXTS: &str = "[...document.querySelectorAll('#log > *')].map(row =>
    row.dataset.kind === 'message'
        ? `${row.querySelector('.who').textContent}: ${row.querySelector('.text').textContent}`
        : row.textContent)";

const MEMBERS: &str = "[...document.querySelectorAll('#members > li')].map(row => {
    const mark = row.querySelector('.mark').textContent;
    return row.querySelector('.name').textContent + (mark && ` (${mark})`);
})";

fn room_button(room: &str) -> String {
    let rooms = "[...document.querySelectorAll('.room')]";
    format!("{rooms}.find(row => row.querySelector('bdi').textContent === {})", json!(room))
}

fn strings(list: &Value) -> Vec<String> {
    let list = list.as_array().expect("a list");
    list.iter().map(|text| text.as_str().expect("a text").to_owned()).collect()
}
