//! A picture of the chat, for the eye: `CHAT_SCREENSHOT=FILE cargo test --test browser screenshot`.

use serde_json::json;

use crate::devtools::Browser;
use crate::page::Page;
use crate::server::Server;

#[tokio::test]
async fn a_chat_can_be_pictured() {
    let (server, browser) = (Server::start().await, Browser::new().await);
    let ann = Page::open(&browser, &server).await;
    let screen = json!({"width": 1200, "height": 800, "deviceScaleFactor": 1, "mobile": false});
    ann.tab.call("Emulation.setDeviceMetricsOverride", screen).await;
    let light = json!({"features": [{"name": "prefers-color-scheme", "value": "light"}]});
    ann.tab.call("Emulation.setEmulatedMedia", light).await;
    ann.enter("Ann", "Tea house").await;
    let li = Page::enter_new(&browser, &server, "Li Lei", "Tea house").await;
    let talk = [
        (&li, "Hi Ann! Is the kettle on?"),
        (&ann, "It is. Green or black?"),
        (&li, "Green, please."),
        (&li, "我五分钟后到。"),
        (&ann, "See you in five minutes, then."),
    ];
    for (speaker, text) in talk {
        speaker.say(text).await;
        ann.tab
            .until(&format!("document.querySelector('#log').lastChild.textContent.includes('{text}')"))
            .await;
    }
    ann.tab.until("document.getAnimations().length === 0").await;

    let png = picture(&ann).await;
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"), "no PNG");
    assert_eq!((number(&png[16..20]), number(&png[20..24])), (1200, 800));
    if let Some(file) = std::env::var_os("CHAT_SCREENSHOT") {
        std::fs::write(&file, png).unwrap_or_else(|e| panic!("can't write {}: {e}", file.display()));
    }
}

async fn picture(page: &Page) -> Vec<u8> {
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
