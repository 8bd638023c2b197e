//! What the tests do with a tab of any browser.

use serde_json::{Value, json};

use crate::PATIENCE;

pub(crate) trait Tab {
    /// The value of an expression, awaited if it is a promise; what it throws is the error.
    async fn eval(&self, expression: &str) -> Result<Value, String>;

    /// Goes there, and is done when everything on that page has been loaded and run.
    async fn goto(&self, url: &str);

    /// Types as a keyboard or an input method does, where the focus is.
    async fn insert(&self, text: &str);

    async fn press(&self, key: Key);

    /// Clicks with the mouse where the element is, whatever may lie above it. Scrolls there if need be.
    async fn click(&self, selector: &str);

    /// Everything of this tab that a developer would find in red or yellow, and every dialog.
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

    /// The centre of an element, which is scrolled to if need be.
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
