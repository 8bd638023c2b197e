//! A small client for the DevTools protocol: one connection for each test, a session for each tab.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::PATIENCE;
use crate::chromium::Chromium;

/// A call may hold a wait inside the page, which has its own deadline and says more.
const CALL_WITHIN: Duration = PATIENCE.saturating_mul(3);

type Answer = Result<Value, String>;

/// What a test needs of the browser. Its tabs are gone with it.
pub(crate) struct Browser {
    link: Arc<Link>,
    _process: Arc<Chromium>,
}

impl Browser {
    pub(crate) async fn new() -> Browser {
        let process = Chromium::shared();
        let connected = tokio_tungstenite::connect_async(process.endpoint()).await;
        let (socket, _) = connected.expect("Chromium takes a connection");
        let (outbox, outgoing) = mpsc::unbounded_channel();
        let link = Arc::new(Link {
            outbox,
            next_id: AtomicU64::new(1),
            waiting: Mutex::default(),
            events: Mutex::default(),
        });
        tokio::spawn(carry(socket, outgoing, link.clone()));
        Browser { link, _process: process }
    }

    /// An empty tab, which shares neither storage nor cache with any other.
    pub(crate) async fn tab(&self) -> Tab {
        let context = self.call("Target.createBrowserContext", json!({"disposeOnDetach": true})).await;
        let target = json!({
            "url": "about:blank", "browserContextId": context["browserContextId"], "width": 1000, "height": 700,
        });
        let target = self.call("Target.createTarget", target).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = self.call("Target.attachToTarget", attach).await;
        let session = attached["sessionId"].as_str().expect("a session id").to_owned();
        let tab = Tab { link: self.link.clone(), session };
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

pub(crate) struct Tab {
    link: Arc<Link>,
    session: String,
}

impl Tab {
    pub(crate) async fn call(&self, method: &str, params: Value) -> Value {
        self.try_call(method, params).await.unwrap_or_else(|e| panic!("{method}: {e}"))
    }

    async fn try_call(&self, method: &str, params: Value) -> Answer {
        self.link.call(Some(&self.session), method, params).await
    }

    /// The value of an expression, awaited if it is a promise; what it throws is the error.
    pub(crate) async fn eval(&self, expression: &str) -> Answer {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let mut answer = self.try_call("Runtime.evaluate", params).await?;
        match answer.get("exceptionDetails") {
            Some(thrown) => Err(thrown_text(thrown)),
            None => Ok(answer["result"]["value"].take()),
        }
    }

    /// Goes there, and is done when everything on that page has been loaded and run.
    pub(crate) async fn goto(&self, url: &str) {
        let went = self.call("Page.navigate", json!({"url": url})).await;
        assert_eq!(went["errorText"], Value::Null, "can't go to {url}");
        self.until("document.readyState === 'complete'").await;
    }

    /// Waits inside the page, until the expression is true.
    pub(crate) async fn until(&self, expression: &str) {
        let wait = format!(
            "(async () => {{
                const end = performance.now() + {};
                while (!({expression})) {{
                    if (performance.now() > end) throw 'the page shows: ' + document.body.innerText;
                    await new Promise(requestAnimationFrame);
                }}
            }})()",
            PATIENCE.as_millis()
        );
        if let Err(error) = self.eval(&wait).await {
            let complaints = self.complaints().await;
            panic!("it never came to `{expression}`\n{error}\nthe browser complains of: {complaints:#?}");
        }
    }

    /// Types as a keyboard or an input method does, where the focus is.
    pub(crate) async fn insert(&self, text: &str) {
        self.call("Input.insertText", json!({"text": text})).await;
    }

    pub(crate) async fn press(&self, key: Key) {
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

    /// Clicks with the mouse where the element is, whatever may lie above it. Scrolls there if need be.
    pub(crate) async fn click(&self, selector: &str) {
        let centre = format!(
            "(() => {{
                const node = document.querySelector({});
                node.scrollIntoView({{ block: 'nearest', behavior: 'instant' }});
                const box = node.getBoundingClientRect();
                return [box.x + box.width / 2, box.y + box.height / 2];
            }})()",
            json!(selector)
        );
        let at = self.eval(&centre).await.unwrap_or_else(|e| panic!("no {selector} to click: {e}"));
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({"type": kind, "x": at[0], "y": at[1], "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", event).await;
        }
    }

    /// From the next page on.
    pub(crate) async fn set_language(&self, language: &str) {
        let agent = self.eval("navigator.userAgent").await.expect("every browser has a name");
        let agent = json!({"userAgent": agent, "acceptLanguage": language});
        self.call("Emulation.setUserAgentOverride", agent).await;
        self.call("Emulation.setLocaleOverride", json!({"locale": language})).await;
    }

    /// Everything of this tab that a developer would find in red or yellow, and every dialog.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        // What happened before this call has been told before its answer.
        self.eval("0").await.expect("the page is alive");
        lock(&self.link.events)
            .iter()
            .filter(|event| event["sessionId"] == self.session)
            .filter_map(complaint)
            .collect()
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Key {
    Enter,
    Tab,
    ShiftTab,
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

/// Calls on their way, and events as they came.
struct Link {
    outbox: mpsc::UnboundedSender<String>,
    next_id: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    events: Mutex<Vec<Value>>,
}

impl Link {
    async fn call(&self, session: Option<&str>, method: &str, params: Value) -> Answer {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        lock(&self.waiting).insert(id, answer);
        let mut request = json!({"id": id, "method": method, "params": params});
        if let Some(session) = session {
            request["sessionId"] = session.into();
        }
        let _ = self.outbox.send(request.to_string());
        match tokio::time::timeout(CALL_WITHIN, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err("the browser is gone".into()),
            Err(_) => Err(format!("no answer within {CALL_WITHIN:?}; is a dialog open?")),
        }
    }

    fn receive(&self, text: &str) {
        let mut message: Value = serde_json::from_str(text).expect("Chromium speaks JSON");
        let Some(id) = message["id"].as_u64() else {
            lock(&self.events).push(message);
            return;
        };
        let answer = match message.get("error") {
            Some(error) => Err(error.to_string()),
            None => Ok(message["result"].take()),
        };
        if let Some(waiting) = lock(&self.waiting).remove(&id) {
            let _ = waiting.send(answer);
        }
    }
}

/// Carries messages both ways until either side is gone.
async fn carry(
    mut socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    mut outgoing: mpsc::UnboundedReceiver<String>,
    link: Arc<Link>,
) {
    loop {
        tokio::select! {
            Some(text) = outgoing.recv() => {
                if socket.send(Message::text(text)).await.is_err() {
                    break;
                }
            }
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => link.receive(&text),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => break,
            },
        }
    }
    outgoing.close();
    lock(&link.waiting).clear();
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
