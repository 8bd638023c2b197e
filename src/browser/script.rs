//! The browser client, served over HTTP.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::LazyLock;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower::Service;

use super::asset::{Asset, AssetBody};
use super::modules::{Module, join, modules};

/// The modules of the client, each after those that it imports. The last one is the package's entry.
const MODULES: &[Module] = modules![
    "errors.js",
    "events.js",
    "json.js",
    "cid.js",
    "timer.js",
    "retry.js",
    "token-bucket.js",
    "rate-budget.js",
    "transients.js",
    "unanswered.js",
    "request-queue.js",
    "own-state.js",
    "options.js",
    "outbox.js",
    "directs.js",
    "page.js",
    "progress.js",
    "roster.js",
    "presence.js",
    "subscription.js",
    "membership.js",
    "room.js",
    "session.js",
    "token-source.js",
    "socket.js",
    "authentication.js",
    "room-requests.js",
    "refusals.js",
    "connection.js",
    "chat.js",
    "message-time.js",
    "chat-rooms.js",
];

/// The client as one module.
pub(super) static SCRIPT: LazyLock<String> = LazyLock::new(|| join(MODULES));

static ASSET: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("text/javascript; charset=utf-8", SCRIPT.as_bytes()));

/// Serves the browser client, an ES module, at any path. Created by
/// [`ChatRooms::client_script`](crate::ChatRooms::client_script).
#[derive(Debug, Clone, Copy)]
pub struct ClientScript(());

impl ClientScript {
    pub(crate) fn new() -> ClientScript {
        ClientScript(())
    }
}

impl<B> Service<Request<B>> for ClientScript {
    type Response = Response<AssetBody>;
    type Error = Infallible;
    type Future = Ready<Result<Response<AssetBody>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(ASSET.answer(&request)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::modules::tests::{assert_complete, assert_in_order, lines_with};
    use super::{MODULES, SCRIPT};

    #[test]
    fn the_script_exports_what_the_entry_exports_and_imports_nothing() {
        let (_, entry) = MODULES[MODULES.len() - 1];
        assert_eq!(lines_with(&SCRIPT, "import"), [""; 0]);
        assert_eq!(lines_with(&SCRIPT, "export"), lines_with(entry, "export"));
        assert!(!SCRIPT.contains("from './"));
    }

    #[test]
    fn modules_follow_those_that_they_import() {
        assert_in_order(MODULES);
    }

    #[test]
    fn every_module_is_in_the_script() {
        assert_complete(MODULES, "browser");
    }
}
