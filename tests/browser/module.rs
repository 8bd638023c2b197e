//! The client module by itself, served by a host that isn't the example.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tower_chat_rooms::{ChatRooms, ChatRoomsBuilder, Heartbeat, History, Recovery};

use crate::devtools::{Browser, DevTab};
use crate::host::Host;
use crate::proxy::Proxy;
use crate::tab::Tab;

const MESSAGES: usize = 500;
const CUTS: usize = 20;

#[tokio::test]
async fn every_message_arrives_once_and_in_order_through_many_cuts() {
    let (host, browser) = (Host::start(recovery(LONG)).await, Browser::new().await);
    let proxy = Proxy::start(host.address()).await;
    let (ann, bob) = (browser.tab().await, browser.tab().await);
    enter(&bob, host.address(), "bob").await;
    enter(&ann, proxy.address(), "ann").await;

    run(&ann, &format!("window.done = talk({MESSAGES}); 0")).await;
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for cut in 1..=CUTS {
        // Between two cuts she has come back and said something, and mostly some of it is under way.
        let allowed = MESSAGES * cut / (CUTS + 1);
        run(&ann, &format!("allow({allowed})")).await;
        ann.until(&format!("acknowledged >= {allowed} - {}", random.below(16))).await;
        proxy.cut();
    }
    run(&ann, &format!("allow({MESSAGES}); done.then(() => 0)")).await;
    assert!(run(&ann, "returns").await.as_u64() >= Some(CUTS as u64));
    run(&ann, "room.leave()").await;

    bob.until("heard.at(-1)?.event === 'out'").await;
    let heard = run(&bob, "heard").await;
    let heard: Vec<(&str, &Value)> = heard
        .as_array()
        .expect("a list")
        .iter()
        .map(|f| (f["event"].as_str().expect("an event"), f))
        .collect();
    let said: Vec<u64> = heard.iter().filter_map(|(_, frame)| frame["message"].as_u64()).collect();
    assert_eq!(said, (0..MESSAGES as u64).collect::<Vec<_>>());
    let others: Vec<&str> =
        heard.iter().map(|(event, _)| *event).filter(|event| *event != "message").collect();
    assert_eq!(others, ["enter", "enter", "out"], "bob's own enter, then one of ann and one out");
    assert_eq!(host.told(3).await, ["+ bob", "+ ann", "- ann: closed by the client"]);
    // Ann has heard the same, from her own enter on.
    assert_eq!(run(&ann, "heard.filter(f => f.event === 'message').map(f => f.message)").await, json!(said));
    assert_eq!(run(&ann, "owned").await, json!(MESSAGES));
}

#[tokio::test]
async fn a_frozen_tab_finds_what_came_meanwhile() {
    let (host, browser) = (Host::start(recovery(LONG)).await, Browser::new().await);
    let (ann, bob) = (browser.tab().await, browser.tab().await);
    enter(&ann, host.address(), "ann").await;
    enter(&bob, host.address(), "bob").await;

    set_lifecycle(&ann, "frozen").await;
    run(&bob, "(async () => { for (let n = 0; n < 20; n += 1) await room.send(n); })()").await;
    set_lifecycle(&ann, "active").await;

    // Chromium closes the connection, and says that the page is going away.
    ann.until("heard.some(f => f.message === 19)").await;
    let said = "heard.filter(f => f.event === 'message').map(f => f.message)";
    assert_eq!(run(&ann, said).await, json!((0..20).collect::<Vec<_>>()));
}

#[tokio::test]
async fn a_tab_that_was_frozen_for_too_long_comes_back() {
    let rooms = recovery(Duration::ZERO).v1_heartbeat(Heartbeat::every(Duration::from_secs(1)));
    let (host, browser) = (Host::start(rooms).await, Browser::new().await);
    let (ann, bob) = (browser.tab().await, browser.tab().await);
    enter(&ann, host.address(), "ann").await;
    enter(&bob, host.address(), "bob").await;

    set_lifecycle(&ann, "frozen").await;
    bob.until("heard.at(-1)?.event === 'out'").await;
    run(&bob, "room.send('missed')").await;
    set_lifecycle(&ann, "active").await;

    bob.until("heard.at(-1)?.event === 'enter' && heard.at(-1)?.name === 'ann'").await;
    ann.until("room.state === 'online' && heard.some(f => f.message === 'missed')").await;
    run(&ann, "room.send('back')").await;
    bob.until("heard.at(-1)?.message === 'back'").await;
}

#[tokio::test]
async fn several_rooms_share_a_connection_through_many_cuts() {
    let (host, browser) = (Host::start(recovery(LONG)).await, Browser::new().await);
    let proxy = Proxy::start(host.address()).await;
    let (ann, bob) = (browser.tab().await, browser.tab().await);
    for (tab, address, name) in [(&bob, host.address(), "bob"), (&ann, proxy.address(), "ann")] {
        tab.goto(&format!("http://{address}/")).await;
        run(tab, &JOIN.replace("NAME", name)).await;
    }

    for cut in 0..CUTS {
        run(&ann, &format!("window.done = say({cut}); 0")).await;
        proxy.cut();
        run(&ann, "done.then(() => 0)").await;
    }
    run(&ann, "rooms.tea.leave()").await;
    bob.until("heard.tea.at(-1) === 'out ann'").await;
    run(&ann, "rooms.coffee.send('last').then(() => chat.close())").await;
    bob.until("heard.coffee.at(-1) === 'out ann'").await;

    let said = (0..CUTS).map(|n| json!(format!("message {n}")));
    let around = |last: &[&str]| {
        let first = ["enter bob", "enter ann"].map(|text| json!(text));
        first
            .into_iter()
            .chain(said.clone())
            .chain(last.iter().map(|text| json!(text)))
            .collect::<Vec<Value>>()
    };
    assert_eq!(run(&bob, "heard.tea").await, json!(around(&["out ann"])));
    assert_eq!(run(&bob, "heard.coffee").await, json!(around(&["message last", "out ann"])));
}

/// A resume window for a busy machine, which may need long to come back.
const LONG: Duration = Duration::from_secs(300);

fn recovery(resume_window: Duration) -> ChatRoomsBuilder {
    let recovery = Recovery::default().history(History::last(100)).resume_window(resume_window);
    ChatRooms::builder().recovery(recovery)
}

/// Loads the module from a page of that host, and enters.
async fn enter(tab: &DevTab, address: SocketAddr, name: &str) {
    tab.goto(&format!("http://{address}/")).await;
    run(tab, &ENTER.replace("NAME", name)).await;
}

const ENTER: &str = "{
    Object.assign(window, { heard: [], acknowledged: 0, owned: 0, returns: -1 });
    const allowing = new EventTarget();
    let allowed = 0;
    window.allow = (count) => { allowed = count; allowing.dispatchEvent(new Event('more')); };
    window.talk = async (count) => {
        const waiting = new Set();
        for (let n = 0; n < count; n += 1) {
            while (n >= allowed) await new Promise((more) => allowing.addEventListener('more', more, { once: true }));
            const sending = room.send(n).then(() => { acknowledged += 1; waiting.delete(sending); });
            waiting.add(sending);
            if (waiting.size >= 16) await Promise.race(waiting);
        }
        await Promise.all(waiting);
    };
    (async () => {
        const { connect } = await import('/chat-rooms.js');
        const note = (frame, { own }) => { heard.push(frame); owned += own && frame.event === 'message'; };
        const on = { message: note, enter: note, out: note, state: ({ state }) => { returns += state === 'online'; } };
        window.room = await connect('/chat', { name: 'NAME', room: 'tea', backoff: { base: 50, cap: 500 }, on });
    })()}";

const JOIN: &str = "(async () => {
    const { connect } = await import('/chat-rooms.js');
    Object.assign(window, { heard: {}, rooms: {} });
    window.say = (n) => Promise.all(Object.values(rooms).map((room) => room.send(n)));
    window.chat = await connect('/chat', { backoff: { base: 50, cap: 500 } });
    for (const id of ['tea', 'coffee']) {
        heard[id] = [];
        const note = ({ event, message, name }) => heard[id].push(`${event} ${event === 'message' ? message : name}`);
        rooms[id] = await chat.join(id, { name: 'NAME', on: { '*': note } });
    }
})()";

/// A frozen tab is a hidden one too, which it can't be while somebody seems to look at it.
async fn set_lifecycle(tab: &DevTab, state: &str) {
    tab.call("Emulation.setFocusEmulationEnabled", json!({"enabled": state == "active"})).await;
    tab.call("Page.setWebLifecycleState", json!({"state": state})).await;
    if state == "frozen" {
        assert_eq!(run(tab, "document.visibilityState").await, "hidden");
    }
}

async fn run(tab: &DevTab, expression: &str) -> Value {
    tab.eval(expression).await.unwrap_or_else(|e| panic!("{expression}: {e}"))
}

/// Numbers that are the same each time (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}
