//! The layer: chat rooms at one path, in front of another service.

use std::sync::Arc;

use tower::Layer;

use crate::error::BuildError;
use crate::http::edge::Edge;
use crate::http::path::MountPath;
use crate::http::service::{ChatRoomsService, Route};

/// Layer that serves WebSocket upgrade requests on one path and passes on all others.
///
/// Created by [`ChatRooms::layer`](crate::ChatRooms::layer).
#[derive(Clone)]
pub struct ChatRoomsLayer {
    edge: Arc<Edge>,
    path: MountPath,
}

impl ChatRoomsLayer {
    pub(crate) fn new(edge: Arc<Edge>, path: &str) -> Result<ChatRoomsLayer, BuildError> {
        match MountPath::parse(path) {
            Ok(path) => Ok(ChatRoomsLayer { edge, path }),
            Err(why) => Err(BuildError::new(format!("invalid path {path:?} for a chat rooms layer: {why}"))),
        }
    }

    /// Returns the path, percent-encoded as browsers send it.
    pub fn path(&self) -> &str {
        self.path.as_str()
    }
}

impl<S> Layer<S> for ChatRoomsLayer {
    type Service = ChatRoomsService<S>;

    fn layer(&self, inner: S) -> ChatRoomsService<S> {
        ChatRoomsService::new(self.edge.clone(), Route::Path(self.path.clone()), inner)
    }
}

impl std::fmt::Debug for ChatRoomsLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatRoomsLayer").field("path", &self.path).finish_non_exhaustive()
    }
}
