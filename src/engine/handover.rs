//! A standing on its way from a lost connection to the one by which its client has come back.

use std::sync::Arc;

use crate::engine::absent::Absent;
use crate::engine::standing::Standing;

/// If nobody takes it, it goes back.
pub(crate) struct Handover {
    inner: Option<Inner>,
}

struct Inner {
    standing: Standing,
    absent: Arc<Absent>,
    back: Box<dyn FnOnce(Standing) + Send>,
}

impl Handover {
    pub(crate) fn new(
        standing: Standing,
        absent: Arc<Absent>,
        back: impl FnOnce(Standing) + Send + 'static,
    ) -> Handover {
        Handover { inner: Some(Inner { standing, absent, back: Box::new(back) }) }
    }

    /// Whose it is now, if anybody's in particular.
    pub(crate) fn user(&self) -> Option<&str> {
        self.inner.as_ref()?.standing.user.as_ref().map(|user| user.id())
    }

    /// The standing, and where it is found until it is somewhere else. `None` never comes.
    pub(crate) fn take(mut self) -> Option<(Standing, Arc<Absent>)> {
        self.inner.take().map(|inner| (inner.standing, inner.absent))
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        if let Some(Inner { standing, back, .. }) = self.inner.take() {
            back(standing);
        }
    }
}
