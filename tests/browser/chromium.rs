//! Chromium, which the tests share.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::process::{BrowserProcess, Program};

const CHROMIUM: Program = Program {
    names: &["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"],
    variable: "CHROMIUM",
    remedy: "these tests need Chromium: install it (Debian, Ubuntu: apt-get install chromium; \
             Fedora: dnf install chromium), or set CHROMIUM to its binary",
    announcement: "DevTools listening on ",
};

const FLAGS: [&str; 15] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    // Of the example that makes its own.
    "--ignore-certificate-errors",
    // No tab is in the background here: each stands for somebody who looks at it.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--remote-debugging-port=0",
    "about:blank",
];

/// The process that other tests use already, or a new one.
pub(crate) fn shared() -> Arc<BrowserProcess> {
    static SHARED: Mutex<Weak<BrowserProcess>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let started = Arc::new(BrowserProcess::start(&CHROMIUM, arguments));
        *shared = Arc::downgrade(&started);
        started
    })
}

fn arguments(profile: &Path) -> Vec<String> {
    let profile = format!("--user-data-dir={}", profile.display());
    FLAGS.iter().map(|flag| (*flag).to_owned()).chain([profile]).collect()
}
