//! A tab of any browser, as the tests use it.

use serde_json::{Value, json};

use crate::PATIENCE;

pub(crate) trait Tab {
    /// Evaluates an expression, and awaits it if it is a promise. An exception is the error.
    async fn eval(&self, expression: &str) -> Result<Value, String>;

    /// Opens this address, and returns when the page is loaded and its scripts have run.
    async fn goto(&self, url: &str);

    /// Types text as a keyboard or an input method does, into the focused element.
    async fn insert(&self, text: &str);

    async fn press(&self, key: Key);

    /// Clicks with the mouse where the element is, even if another element covers it. Scrolls there if necessary.
    async fn click(&self, selector: &str);

    /// The errors and warnings in this tab's console, and its dialogs.
    async fn complaints(&self) -> Vec<String>;

    /// Waits inside the page, until the expression is true.
    async fn until(&self, expression: &str) {
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

    /// Returns the centre of an element. Scrolls there if necessary.
    async fn centre(&self, selector: &str) -> (f64, f64) {
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
        let number = |n: usize| at[n].as_f64().expect("a number");
        (number(0), number(1))
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Key {
    Enter,
    Tab,
    ShiftTab,
}
