//! A small client for the DevTools protocol: one connection for each test, a session for each tab.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::chromium;
use crate::link::{Answer, Link};
use crate::process::BrowserProcess;
use crate::tab::{Key, Tab};

/// What a test needs of the browser. Its tabs are gone with it.
pub(crate) struct Browser {
    link: Arc<Link>,
    _process: Arc<BrowserProcess>,
}

impl Browser {
    pub(crate) async fn new() -> Browser {
        let process = chromium::shared();
        let link = Link::open(process.endpoint()).await;
        Browser { link, _process: process }
    }

    /// An empty tab, which shares neither storage nor cache with any other.
    pub(crate) async fn tab(&self) -> DevTab {
        let [tab] = self.tabs().await;
        tab
    }

    /// Empty tabs that share storage and cache, as those of one person do.
    pub(crate) async fn tabs<const N: usize>(&self) -> [DevTab; N] {
        let context = self.call("Target.createBrowserContext", json!({"disposeOnDetach": true})).await;
        let mut tabs = Vec::new();
        while tabs.len() < N {
            tabs.push(self.tab_of(&context["browserContextId"]).await);
        }
        tabs.try_into().unwrap_or_else(|_| unreachable!("there are as many as that"))
    }

    async fn tab_of(&self, context: &Value) -> DevTab {
        let target = json!({
            "url": "about:blank", "browserContextId": context, "width": 1000, "height": 700,
        });
        let target = self.call("Target.createTarget", target).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = self.call("Target.attachToTarget", attach).await;
        let session = attached["sessionId"].as_str().expect("a session id").to_owned();
        let tab = DevTab { link: self.link.clone(), session };
        for domain in ["Page", "Runtime", "Log"] {
            tab.call(&format!("{domain}.enable"), json!({})).await;
        }
        tab.call("Emulation.setFocusEmulationEnabled", json!({"enabled": true})).await;
        tab.set_language("en-US").await;
        tab
    }

    async fn call(&self, method: &str, params: Value) -> Value {
        self.link.call(None, method, params).await.unwrap_or_else(|e| panic!("{method}: {e}"))
    }
}

pub(crate) struct DevTab {
    link: Arc<Link>,
    session: String,
}

impl DevTab {
    pub(crate) async fn call(&self, method: &str, params: Value) -> Value {
        self.try_call(method, params).await.unwrap_or_else(|e| panic!("{method}: {e}"))
    }

    async fn try_call(&self, method: &str, params: Value) -> Answer {
        self.link.call(Some(&self.session), method, params).await
    }

    /// Applies from the next page on.
    pub(crate) async fn set_language(&self, language: &str) {
        let agent = self.eval("navigator.userAgent").await.expect("every browser has a name");
        let agent = json!({"userAgent": agent, "acceptLanguage": language});
        self.call("Emulation.setUserAgentOverride", agent).await;
        self.call("Emulation.setLocaleOverride", json!({"locale": language})).await;
    }
}

impl Tab for DevTab {
    async fn eval(&self, expression: &str) -> Answer {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let mut answer = self.try_call("Runtime.evaluate", params).await?;
        match answer.get("exceptionDetails") {
            Some(thrown) => Err(thrown_text(thrown)),
            None => Ok(answer["result"]["value"].take()),
        }
    }

    async fn goto(&self, url: &str) {
        let went = self.call("Page.navigate", json!({"url": url})).await;
        assert_eq!(went["errorText"], Value::Null, "can't go to {url}");
        self.until("document.readyState === 'complete'").await;
    }

    async fn insert(&self, text: &str) {
        self.call("Input.insertText", json!({"text": text})).await;
    }

    async fn press(&self, key: Key) {
        let (name, code, text, modifiers) = match key {
            Key::Enter => ("Enter", 13, "\r", 0),
            Key::Tab => ("Tab", 9, "", 0),
            Key::ShiftTab => ("Tab", 9, "", 8),
        };
        for (kind, text) in [(if text.is_empty() { "rawKeyDown" } else { "keyDown" }, text), ("keyUp", "")] {
            let event = json!({
                "type": kind, "key": name, "code": name, "windowsVirtualKeyCode": code, "text": text,
                "modifiers": modifiers,
            });
            self.call("Input.dispatchKeyEvent", event).await;
        }
    }

    async fn click(&self, selector: &str) {
        let (x, y) = self.centre(selector).await;
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", event).await;
        }
    }

    async fn complaints(&self) -> Vec<String> {
        // Events from before this call arrive before its answer.
        self.eval("0").await.expect("the page is alive");
        self.link.events(|event| (event["sessionId"] == self.session).then(|| complaint(event)).flatten())
    }
}

fn complaint(event: &Value) -> Option<String> {
    let params = &event["params"];
    let is_bad = |level: &Value| matches!(level.as_str(), Some("error" | "warning" | "assert"));
    match event["method"].as_str()? {
        "Runtime.exceptionThrown" => Some(thrown_text(&params["exceptionDetails"])),
        "Runtime.consoleAPICalled" if is_bad(&params["type"]) => Some(params["args"].to_string()),
        "Log.entryAdded" if is_bad(&params["entry"]["level"]) => Some(params["entry"]["text"].to_string()),
        "Page.javascriptDialogOpening" => Some(params.to_string()),
        _ => None,
    }
}

fn thrown_text(details: &Value) -> String {
    let exception = &details["exception"];
    let text = [&exception["description"], &exception["value"], &details["text"]];
    text.iter().find_map(|text| text.as_str()).unwrap_or("it threw").to_owned()
}
