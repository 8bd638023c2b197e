//! Captures what the crate logs.

use std::io;
use std::sync::{Arc, LazyLock, Mutex};

use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// Log output, and the `Debug` output of what is passed to [`show`](LogCapture::show).
#[derive(Clone, Default)]
pub(crate) struct LogCapture(Arc<Mutex<Vec<u8>>>);

impl LogCapture {
    /// Captures what this thread logs until the guard is dropped.
    pub(crate) fn listen(&self, filter: &str) -> tracing::subscriber::DefaultGuard {
        // With a single subscriber, tracing caches whether an event is enabled by the subscriber of the thread that
        // logs it first. In another test's thread that is none, and the event would stay disabled.
        static SECOND: LazyLock<tracing::Dispatch> =
            LazyLock::new(|| tracing::Dispatch::new(tracing_subscriber::registry()));
        LazyLock::force(&SECOND);
        let capture = self.clone();
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_span_events(FmtSpan::FULL)
            .with_ansi(false)
            .with_writer(move || capture.clone())
            .set_default()
    }

    /// Captures `Debug` output, as a host would log it.
    pub(crate) fn show(&self, value: &impl std::fmt::Debug) {
        let text = format!("{value:?} {value:#?}\n");
        self.0.lock().unwrap().extend_from_slice(text.as_bytes());
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// The number of lines that contain a text.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.text().lines().filter(|line| line.contains(text)).count()
    }
}

impl io::Write for LogCapture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
