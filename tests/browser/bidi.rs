//! Firefox, through WebDriver BiDi. Each test has its own process, because Firefox accepts only one session at a time.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::link::{Answer, Link};
use crate::process::{BrowserProcess, Program};
use crate::tab::{Key, Tab};

const FIREFOX: Program = Program {
    names: &["firefox-esr", "firefox"],
    variable: "FIREFOX",
    remedy: "these tests need Firefox: install it (Debian: apt-get install firefox-esr; Fedora: dnf install firefox), \
             or set FIREFOX to its binary",
    announcement: "WebDriver BiDi listening on ",
};

/// Loads nothing but the pages of the tests, and sets their language to English.
const PREFERENCES: &str = r#"
user_pref("app.update.auto", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("browser.startup.page", 0);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("dom.ipc.processPrelaunch.enabled", false);
user_pref("intl.accept_languages", "en-US");
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("toolkit.telemetry.enabled", false);
"#;

pub(crate) struct Firefox {
    link: Arc<Link>,
    _process: BrowserProcess,
}

impl Firefox {
    pub(crate) async fn new() -> Firefox {
        let process = BrowserProcess::start(&FIREFOX, arguments);
        let link = Link::open(&format!("{}/session", process.endpoint())).await;
        let firefox = Firefox { link, _process: process };
        firefox.call("session.new", json!({"capabilities": {}})).await;
        let events = ["log.entryAdded", "browsingContext.userPromptOpened"];
        firefox.call("session.subscribe", json!({"events": events})).await;
        firefox
    }

    /// An empty tab, which shares neither storage nor cache with any other. It is alone in its window, because only
    /// one tab of a window is visible.
    pub(crate) async fn tab(&self) -> BidiTab {
        let user = self.call("browser.createUserContext", json!({})).await;
        let create = json!({"type": "window", "userContext": user["userContext"]});
        let created = self.call("browsingContext.create", create).await;
        let context = created["context"].as_str().expect("a tab has an id").to_owned();
        BidiTab { link: self.link.clone(), context }
    }

    async fn call(&self, method: &str, params: Value) -> Value {
        self.link.call(None, method, params).await.unwrap_or_else(|e| panic!("{method}: {e}"))
    }
}

fn arguments(profile: &Path) -> Vec<String> {
    let preferences = profile.join("user.js");
    std::fs::write(&preferences, PREFERENCES)
        .unwrap_or_else(|e| panic!("can't write {}: {e}", preferences.display()));
    let profile = profile.display().to_string();
    ["--headless", "--no-remote", "--remote-debugging-port", "0", "--profile", &profile]
        .map(str::to_owned)
        .into()
}

pub(crate) struct BidiTab {
    link: Arc<Link>,
    context: String,
}

impl BidiTab {
    async fn call(&self, method: &str, mut params: Value) -> Answer {
        params["context"] = self.context.clone().into();
        self.link.call(None, method, params).await
    }

    async fn act(&self, device: Value) {
        let acted = self.call("input.performActions", json!({"actions": [device]})).await;
        acted.unwrap_or_else(|e| panic!("input: {e}"));
    }
}

impl Tab for BidiTab {
    /// The value comes as JSON, because BiDi has a form of its own for values.
    async fn eval(&self, expression: &str) -> Answer {
        let params = json!({
            "expression": format!("(async () => JSON.stringify(await ({expression})) ?? 'null')()"),
            "target": {"context": self.context}, "awaitPromise": true, "userActivation": false,
        });
        let answer = self.link.call(None, "script.evaluate", params).await?;
        if answer["type"] == "exception" {
            let details = &answer["exceptionDetails"];
            let value = details["exception"]["value"].as_str().unwrap_or_default();
            return Err(format!("{} {value}", details["text"]));
        }
        let json = answer["result"]["value"].as_str().expect("the result is text");
        serde_json::from_str(json).map_err(|e| format!("{json}: {e}"))
    }

    async fn goto(&self, url: &str) {
        let went = self.call("browsingContext.navigate", json!({"url": url, "wait": "complete"})).await;
        went.unwrap_or_else(|e| panic!("can't go to {url}: {e}"));
    }

    async fn insert(&self, text: &str) {
        let keys: Vec<Value> = text
            .chars()
            .flat_map(|c| [json!({"type": "keyDown", "value": c}), json!({"type": "keyUp", "value": c})])
            .collect();
        self.act(json!({"type": "key", "id": "keyboard", "actions": keys})).await;
    }

    async fn press(&self, key: Key) {
        // As WebDriver writes keys without a character.
        let (key, shift) = match key {
            Key::Enter => ("\u{e007}", false),
            Key::Tab => ("\u{e004}", false),
            Key::ShiftTab => ("\u{e004}", true),
        };
        let mut keys = vec![json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})];
        if shift {
            keys.insert(0, json!({"type": "keyDown", "value": "\u{e008}"}));
            keys.push(json!({"type": "keyUp", "value": "\u{e008}"}));
        }
        self.act(json!({"type": "key", "id": "keyboard", "actions": keys})).await;
    }

    async fn click(&self, selector: &str) {
        let (x, y) = self.centre(selector).await;
        let actions = json!([
            {"type": "pointerMove", "x": x.round(), "y": y.round()},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]);
        self.act(json!({"type": "pointer", "id": "mouse", "actions": actions})).await;
    }

    async fn complaints(&self) -> Vec<String> {
        // Events from before this call arrive before its answer.
        self.eval("0").await.expect("the page is alive");
        self.link.events(|event| {
            let params = &event["params"];
            if params["source"]["context"] == *self.context {
                let is_bad = matches!(params["level"].as_str(), Some("error" | "warn"));
                return is_bad.then(|| params["text"].to_string());
            }
            let is_dialog = event["method"] == "browsingContext.userPromptOpened";
            (is_dialog && params["context"] == *self.context).then(|| params.to_string())
        })
    }
}
