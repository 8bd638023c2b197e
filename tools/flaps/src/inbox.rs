//! The direct messages that a client receives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tower_chat_rooms_client::{Chat, ChatEvent};

/// What was received since the last check.
#[derive(Debug, Default)]
pub struct Directs {
    /// The texts from each user, in order.
    pub texts: BTreeMap<String, Vec<String>>,
    /// Whether a session has ended that may have had others.
    pub has_gap: bool,
    /// What should not have been received.
    pub faults: Vec<String>,
}

/// Collects the direct messages of a client.
#[derive(Debug, Clone, Default)]
pub struct Inbox(Arc<Mutex<Directs>>);

impl Inbox {
    /// Collects the direct messages of a chat, until it is closed.
    pub async fn collect(self, mut chat: Chat) {
        while let Some(event) = chat.recv().await {
            let mut directs = self.lock();
            match event {
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

    fn lock(&self) -> MutexGuard<'_, Directs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
