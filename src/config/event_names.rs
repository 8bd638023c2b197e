/// The events that the host has declared as transient or reserved for itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct EventNames {
    /// They are sent without a place in the room log.
    pub(crate) transient: Vec<String>,
    /// Only the host may send them.
    pub(crate) host: Vec<String>,
}

impl EventNames {
    pub(crate) fn is_transient(&self, event: &str) -> bool {
        self.transient.iter().any(|name| name == event)
    }

    pub(crate) fn is_of_host(&self, event: &str) -> bool {
        self.host.iter().any(|name| name == event)
    }
}
