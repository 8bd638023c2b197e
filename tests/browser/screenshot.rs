//! Takes pictures of the chat page: `CHAT_SCREENSHOTS=FOLDER cargo test --test browser screenshot`. `page.png` there is
//! the picture in the README.

use std::path::PathBuf;

use serde_json::json;

use crate::devtools::Browser;
use crate::page::Page;
use crate::server::Server;
use crate::tab::Tab;

/// Each has its own rooms.
const SCREENS: [(&str, u32, u32, &str, &str); 2] =
    [("page", 1200, 800, "Tea house", "Garden"), ("phone", 390, 760, "Tea room", "Terrace")];

#[tokio::test]
async fn a_chat_can_be_pictured() {
    let (server, browser) = (Server::start().await, Browser::new().await);
    for (name, width, height, room, garden) in SCREENS {
        let ann = Page::open(&browser, &server).await;
        let screen =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": name == "phone"});
        ann.tab.call("Emulation.setDeviceMetricsOverride", screen).await;
        for scheme in ["light", "dark"] {
            show(&ann, scheme).await;
            keep(&format!("{name}-form-{scheme}"), &picture(&ann).await);
        }
        ann.enter("Ann", room).await;
        let li = Page::enter_new(&browser, &server, "Li Lei", room).await;
        let mo = Page::enter_new(&browser, &server, "Mo", room).await;
        mo.be_away().await;
        let zoe = Page::enter_new(&browser, &server, "Zoe", garden).await;
        ann.join(garden).await;
        ann.show_room(room).await;
        talk(&ann, &li).await;
        zoe.say("The roses are out!").await;
        ann.until_unread(garden, "1").await;
        li.write("And").await;
        ann.tab.until("document.querySelector('#typing').textContent !== ''").await;
        for scheme in ["light", "dark"] {
            show(&ann, scheme).await;
            let png = picture(&ann).await;
            assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"), "no PNG");
            assert_eq!((number(&png[16..20]), number(&png[20..24])), (width, height));
            let file = if scheme == "light" { name.to_owned() } else { format!("{name}-{scheme}") };
            keep(&file, &png);
        }
        if name == "phone" {
            for panel in ["rooms", "members"] {
                ann.tab.click(&format!("#show-{panel}")).await;
                keep(&format!("{name}-{panel}"), &picture(&ann).await);
                ann.value(&format!("document.querySelector('#{panel}-panel').hidePopover()")).await;
            }
        }
        ann.show_room(garden).await;
        show(&ann, "dark").await;
        keep(&format!("{name}-unread"), &picture(&ann).await);
    }
}

async fn talk(ann: &Page, li: &Page) {
    let talk = [
        (li, "Hi Ann! Is the kettle on?"),
        (ann, "It is. Green or black?"),
        (li, "Green, please. Like this one: https://example.com/teas/green"),
        (li, "我五分钟后到。"),
        (ann, "See you in five minutes, then."),
    ];
    for (speaker, text) in talk {
        speaker.say(text).await;
        ann.tab
            .until(&format!("document.querySelector('#log').lastChild.textContent.includes('{text}')"))
            .await;
    }
}

/// Switches between light and dark, and waits until nothing moves.
pub(crate) async fn show(page: &Page, scheme: &str) {
    let scheme = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
    page.tab.call("Emulation.setEmulatedMedia", scheme).await;
    page.tab.until("document.getAnimations().length === 0").await;
}

pub(crate) fn keep(name: &str, png: &[u8]) {
    if let Some(folder) = std::env::var_os("CHAT_SCREENSHOTS") {
        let file = PathBuf::from(folder).join(format!("{name}.png"));
        std::fs::write(&file, png).unwrap_or_else(|e| panic!("can't write {}: {e}", file.display()));
    }
}

pub(crate) async fn picture(page: &Page) -> Vec<u8> {
    let shot = page.tab.call("Page.captureScreenshot", json!({"format": "png"})).await;
    decode_base64(shot["data"].as_str().expect("a picture in base64"))
}

fn decode_base64(text: &str) -> Vec<u8> {
    let sixes: Vec<u32> = text.bytes().filter(|&byte| byte != b'=').map(six_bits).collect();
    let group = |four: &[u32]| {
        let bits = four.iter().enumerate().fold(0, |bits, (i, six)| bits | six << (18 - 6 * i));
        bits.to_be_bytes()[1..four.len()].to_vec()
    };
    sixes.chunks(4).flat_map(group).collect()
}

fn six_bits(byte: u8) -> u32 {
    match byte {
        b'A'..=b'Z' => (byte - b'A').into(),
        b'a'..=b'z' => (byte - b'a' + 26).into(),
        b'0'..=b'9' => (byte - b'0' + 52).into(),
        b'+' => 62,
        b'/' => 63,
        _ => panic!("no base64: {byte}"),
    }
}

/// As PNG has its numbers.
fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u32::from(byte))
}
