//! The layer: chat rooms at one path, in front of everything else.

use std::sync::Arc;

use tower::Layer;

use crate::service::edge::Edge;
use crate::service::service::{ChatRoomsService, Route};

/// Wraps a service so that upgrade requests on one path become chat connections. Made by
/// [`ChatRooms::layer`](crate::ChatRooms::layer).
#[derive(Clone)]
pub struct ChatRoomsLayer {
    edge: Arc<Edge>,
    path: Arc<str>,
}

impl ChatRoomsLayer {
    pub(crate) fn new(edge: Arc<Edge>, path: &str) -> ChatRoomsLayer {
        ChatRoomsLayer { edge, path: path.into() }
    }
}

impl<S> Layer<S> for ChatRoomsLayer {
    type Service = ChatRoomsService<S>;

    fn layer(&self, inner: S) -> ChatRoomsService<S> {
        ChatRoomsService::new(self.edge.clone(), Route::Only(self.path.clone()), inner)
    }
}

impl std::fmt::Debug for ChatRoomsLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatRoomsLayer").field("path", &self.path).finish_non_exhaustive()
    }
}
