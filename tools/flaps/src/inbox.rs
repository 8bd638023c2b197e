//! The direct messages that a client receives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tower_chat_rooms_client::{Chat, ChatEvent};

/// What was received since the last check.
#[derive(Debug, Default)]
pub struct Directs {
    /// The texts from each user, in order.
    pub texts: BTreeMap<String, Vec<String>>,
    /// Whether a session has ended that may have had others.
    pub has_gap: bool,
    /// When the client has learned of missed messages, if it is allowed to miss some.
    gaps: Vec<Instant>,
    /// What should not have been received.
    pub faults: Vec<String>,
}

/// Collects the direct messages of a client.
#[derive(Debug, Clone, Default)]
pub struct Inbox {
    directs: Arc<Mutex<Directs>>,
    may_miss: bool,
}

impl Inbox {
    /// The inbox of a client that may miss messages if it is told so: its session may move to another node.
    pub fn with_gaps() -> Inbox {
        Inbox { may_miss: true, ..Inbox::default() }
    }

    /// Collects the direct messages of a chat, until it is closed.
    pub async fn collect(self, mut chat: Chat) {
        while let Some(event) = chat.recv().await {
            let mut directs = self.lock();
            match event {
                ChatEvent::DirectGap { .. } if self.may_miss => directs.gaps.push(Instant::now()),
                ChatEvent::Direct(frame) => {
                    let from = frame.user().unwrap_or_default().to_owned();
                    let text = frame.message().as_str().unwrap_or_default().to_owned();
                    directs.texts.entry(from).or_default().push(text);
                }
                // The session ended while the client was away.
                ChatEvent::DirectGap { missed: None, .. } => directs.has_gap = true,
                ChatEvent::DirectGap { .. } | ChatEvent::Overflow { .. } | ChatEvent::Error(_) => {
                    directs.faults.push(format!("{event:?}"));
                }
                _ => {}
            }
        }
    }

    /// What was received since the last call.
    pub fn take(&self) -> Directs {
        std::mem::take(&mut *self.lock())
    }

    /// Whether a text has arrived.
    pub fn has(&self, from: &str, text: &str) -> bool {
        let directs = self.lock();
        directs.has_gap
            || directs.texts.get(from).is_some_and(|texts| texts.iter().any(|other| other == text))
    }

    /// Whether a text has arrived that was sent at this time, or the client was told since that it has missed some.
    pub fn has_or_misses(&self, from: &str, text: &str, sent: Instant) -> bool {
        self.has(from, text) || self.lock().gaps.iter().any(|gap| *gap >= sent)
    }

    fn lock(&self) -> MutexGuard<'_, Directs> {
        self.directs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
