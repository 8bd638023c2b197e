//! What the view may do, if the host allows it.

use http::request::Parts;
use serde_json::{Value, json};

use crate::admin::answer::Refused;
use crate::admin::query::Query;
use crate::admin::views::connection_id;
use crate::chat_rooms::ChatRooms;
use crate::config::Drain;
use crate::http::origin::Origins;

/// A form on another site cannot send this header, and a script on another site needs the server's permission first.
const HEADER: &str = "x-chat-admin";

/// The actions that the host has allowed.
#[derive(Debug, Clone, Default)]
pub(super) struct Actions {
    pub(super) kick: bool,
    pub(super) close_room: bool,
    pub(super) drain: Option<Drain>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Kick,
    CloseRoom,
    Drain,
}

impl Actions {
    /// Their names, as in the paths of the requests.
    pub(super) fn names(&self) -> Vec<&'static str> {
        let all = [Action::Kick, Action::CloseRoom, Action::Drain];
        all.into_iter().filter(|action| self.allow(*action)).map(Action::name).collect()
    }

    fn allow(&self, action: Action) -> bool {
        match action {
            Action::Kick => self.kick,
            Action::CloseRoom => self.close_room,
            Action::Drain => self.drain.is_some(),
        }
    }

    /// Performs an action, if it is allowed.
    pub(super) async fn run(
        &self,
        rooms: &ChatRooms,
        action: Action,
        mut query: Query,
    ) -> Result<Value, Refused> {
        match (action, self.drain) {
            (Action::Kick, _) if self.kick => kick(rooms, query).await,
            (Action::CloseRoom, _) if self.close_room => {
                let room = query.required("id")?;
                query.finish()?;
                let members = rooms.all_nodes().close_room(&room).await?;
                tracing::info!(room, members, "the admin view has closed a room");
                Ok(json!({ "members": members }))
            }
            (Action::Drain, Some(drain)) => {
                query.finish()?;
                tracing::info!("the admin view has asked for a drain");
                let progress = rooms.drain(drain).progress();
                Ok(json!({ "connections": progress.connections, "closed": progress.closed }))
            }
            _ => Err(Refused::not_allowed(format!(
                "this view does not allow the action; to allow it, call `Admin::{}`, or start the standalone server with \
                 `--admin-allow {}`",
                action.setting(),
                action.name()
            ))),
        }
    }
}

/// Closes a connection, or all connections of a user, on any node.
async fn kick(rooms: &ChatRooms, mut query: Query) -> Result<Value, Refused> {
    if let Some(user) = query.take("user") {
        query.finish()?;
        let sessions = rooms.all_nodes().kick_user(&user).await?;
        tracing::info!(user, sessions, "the admin view has kicked a user");
        return Ok(json!({ "sessions": sessions }));
    }
    let connection = connection_id(&query.required("connection")?)?;
    query.finish()?;
    if !rooms.all_nodes().kick(connection).await? {
        return Err(Refused::not_found("there is no connection with this id"));
    }
    tracing::info!(%connection, "the admin view has kicked a connection");
    Ok(json!({ "sessions": 1 }))
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Action::Kick => "kick",
            Action::CloseRoom => "close-room",
            Action::Drain => "drain",
        }
    }

    /// The method that allows it.
    fn setting(self) -> &'static str {
        match self {
            Action::Kick => "allow_kick",
            Action::CloseRoom => "allow_close_room",
            Action::Drain => "allow_drain",
        }
    }
}

/// Refuses a request that a page of another site may have caused.
pub(super) fn check_source(parts: &Parts) -> Result<(), Refused> {
    if !parts.headers.contains_key(HEADER) {
        return Err(Refused::foreign(
            "send the header `X-Chat-Admin: 1`, which shows that the request is not from a form on another site",
        ));
    }
    let is_foreign = parts
        .headers
        .get("sec-fetch-site")
        .is_some_and(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"));
    if is_foreign || !Origins::same_host().allow(parts) {
        return Err(Refused::foreign(
            "a page of another origin has sent this. If the page is the view's own, a proxy must pass on `Host` \
             unchanged",
        ));
    }
    Ok(())
}
