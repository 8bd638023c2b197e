//! The admin view: a page and JSON that show the current state to those who operate the chat.

mod actions;
mod answer;
mod listing;
mod node;
mod page;
mod query;
mod rates;
mod views;

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::request::Parts;
use http::{Method, Request, Response};
use tower::Service;

use crate::admin::actions::{Action, Actions, check_source};
use crate::admin::answer::Refused;
use crate::admin::query::Query;
use crate::admin::rates::Rates;
use crate::browser::asset::AssetBody;
use crate::chat_rooms::ChatRooms;
use crate::config::Drain;
use crate::http::path::MountPath;

const READ: &str = "GET, HEAD";

/// The settings of an admin view, from [`ChatRooms::admin`]. It becomes a service with [`guarded_by_host`].
///
/// The view is a page, and JSON for programs. It shows the nodes, rooms, members, connections and users, and the counters
/// of [`Stats`](crate::Stats). It shows no messages, no tokens, and none of the values that your hooks attach to users and
/// members. It changes nothing, unless you allow that.
///
/// # Guard it
///
/// **The view does not check who sends a request.** It shows the addresses of clients, and who is in which room. Put it
/// behind a middleware that checks this, or serve it on an address that only operators can connect to. By calling
/// [`guarded_by_host`], you confirm that you have done so.
///
/// If the address is the only guard, also check that requests name it in their `Host` header. A foreign page that an
/// operator visits can make a name of its own resolve to your address (DNS rebinding). It then looks like the view's own
/// page, but its requests carry that name.
///
/// Without `guarded_by_host`, it is not a service:
///
/// ```compile_fail,E0277
/// let rooms = tower_chat_rooms::ChatRooms::builder().build().unwrap();
/// axum::Router::<()>::new().nest_service("/admin", rooms.admin());
/// ```
///
/// ```
/// # let rooms = tower_chat_rooms::ChatRooms::builder().build().unwrap();
/// axum::Router::<()>::new().nest_service("/admin", rooms.admin().guarded_by_host());
/// ```
///
/// With axum, behind a middleware (`examples/admin.rs` is complete):
///
/// ```
/// use axum::extract::Request;
/// use axum::http::{StatusCode, header::AUTHORIZATION};
/// use axum::middleware::{Next, from_fn};
/// use axum::response::Response;
/// use axum::Router;
/// use tower_chat_rooms::ChatRooms;
///
/// async fn operators_only(request: Request, next: Next) -> Result<Response, StatusCode> {
///     match request.headers().get(AUTHORIZATION) {
///         Some(value) if value == "Bearer a-long-random-token" => Ok(next.run(request).await),
///         _ => Err(StatusCode::UNAUTHORIZED),
///     }
/// }
///
/// # fn main() -> Result<(), tower_chat_rooms::BuildError> {
/// let rooms = ChatRooms::builder().build()?;
/// let admin = rooms.admin().allow_kick().guarded_by_host();
/// let app: Router = Router::new()
///     .nest_service("/admin", admin)
///     // It guards all routes that are added before it.
///     .layer(from_fn(operators_only))
///     .route_service("/chat", rooms.service());
/// # drop(app);
/// # Ok(())
/// # }
/// ```
///
/// # Where to mount it
///
/// `nest_service` of axum removes the prefix from the path. If your router does not do this, or if you have no router,
/// as with hyper, pass the prefix to [`at`](Admin::at). The page works with and without a slash at the end.
///
/// ```
/// use std::convert::Infallible;
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::combinators::UnsyncBoxBody;
/// use http_body_util::{BodyExt, Empty};
/// use hyper::body::Incoming;
/// use tower::ServiceExt;
/// use tower_chat_rooms::{AdminService, ChatRooms};
///
/// /// Serve it with hyper's `service_fn`, on an address that only operators can connect to.
/// async fn site(
///     admin: AdminService,
///     request: Request<Incoming>,
/// ) -> Result<Response<UnsyncBoxBody<Bytes, Infallible>>, Infallible> {
///     if request.uri().path().starts_with("/ops/chat") {
///         return Ok(admin.oneshot(request).await?.map(|body| body.boxed_unsync()));
///     }
///     Ok(Response::new(Empty::new().boxed_unsync()))
/// }
/// # fn main() -> Result<(), tower_chat_rooms::BuildError> {
/// # let rooms = ChatRooms::builder().build()?;
/// let admin = rooms.admin().at("/ops/chat").guarded_by_host();
/// # drop(admin);
/// # Ok(())
/// # }
/// ```
///
/// # JSON
///
/// | path | answer |
/// |---|---|
/// | `nodes` | the number of this node (`null` without a broker), all nodes that the broker knows, the health, and the actions that are allowed |
/// | `rooms?sort=members` | the rooms with most members first; also `sort=rate` and `sort=id`, and `find=TEXT` for ids that contain a text |
/// | `room?id=ROOM` | one room, with its members in the order in which they entered |
/// | `connection?id=ID` | one connection: its user, address, rooms, send queue and protocol |
/// | `users` | the users that are online, by id, with their sessions; also `find=TEXT` |
/// | `stats` | all numbers of [`Stats`](crate::Stats): `now`, `total` since the start, `reasons`, `times` and `broker` (`null` without one) |
///
/// Ids are parameters instead of segments of the path, because the id of a room may be empty or `..`, or contain slashes,
/// which browsers and proxies change in a path. Ids of connections are strings, because JavaScript rounds large
/// numbers.
///
/// Lists come in pages of 100 entries, or of another number with `limit=N`, up to 1,000. If there are more entries,
/// `next` is present. Ask for the next page with `after=NEXT`. In `room`, `users` and `rooms?sort=id`, each entry that
/// exists all the time is on exactly one page. The other orders of rooms change between requests, so a room may be on
/// two pages, or on none.
///
/// `rate` is the number of frames per second: messages, enters and leaves. It is computed from the room's positions at
/// two requests, at least two seconds and at most a minute apart, so messages cost nothing extra. It is `null` until
/// the second request.
///
/// With a [broker](crate::ChatRoomsBuilder::broker), rooms, connections and users are those of this node. The number of
/// members online is that of all nodes. Each node has its own view.
///
/// An error is an object with an `error`, which is a code, and a `message`.
///
/// # Actions
///
/// | request | action | allowed by |
/// |---|---|---|
/// | `POST kick?connection=ID` or `POST kick?user=ID` | [`AllNodes::kick`](crate::AllNodes::kick), [`AllNodes::kick_user`](crate::AllNodes::kick_user) | [`allow_kick`](Admin::allow_kick) |
/// | `POST close-room?id=ROOM` | [`AllNodes::close_room`](crate::AllNodes::close_room) | [`allow_close_room`](Admin::allow_close_room) |
/// | `POST drain` | [`ChatRooms::drain`], on this node | [`allow_drain`](Admin::allow_drain) |
///
/// A request needs the header `X-Chat-Admin: 1`, and is refused if a page of another origin has sent it. This way, no
/// other site can use the credentials of an operator who visits it. Each action is logged at the level `info`.
///
/// # Cost
///
/// The view costs nothing while nobody uses it. A request goes through the rooms or users in parts, and keeps only the
/// entries of its page. It holds no lock for longer than it takes to copy a page. Among 10,000 rooms and 50,000
/// connections, an answer takes 2 to 40 ms on a machine that is busy with other work. The page sends a request every
/// three seconds, but not while it is hidden.
///
/// [`guarded_by_host`]: Admin::guarded_by_host
#[must_use = "an admin view is a service only after `guarded_by_host`"]
#[derive(Clone)]
pub struct Admin {
    rooms: ChatRooms,
    actions: Actions,
    at: Option<MountPath>,
}

/// Serves the admin view. Created by [`Admin::guarded_by_host`].
#[derive(Clone)]
pub struct AdminService(Arc<Shared>);

struct Shared {
    admin: Admin,
    rates: Rates,
}

/// Response future of [`AdminService`].
pub struct AdminFuture(Pin<Box<dyn Future<Output = Response<AssetBody>> + Send>>);

impl ChatRooms {
    /// Returns the settings of an admin view: a page and JSON about nodes, rooms, connections and users, for those who
    /// operate the chat. It does not check who sends a request, so you have to guard it: see [`Admin`].
    pub fn admin(&self) -> Admin {
        Admin { rooms: self.clone(), actions: Actions::default(), at: None }
    }
}

impl Admin {
    /// Sets the prefix with which the paths of requests start. Without it, your router has to remove the prefix.
    ///
    /// # Panics
    ///
    /// If no request can have this path, for example because it does not start with `/`.
    #[track_caller]
    pub fn at(mut self, path: &str) -> Admin {
        let parsed = MountPath::parse(path);
        self.at = Some(parsed.unwrap_or_else(|error| panic!("{path:?} is not a path: {error}")));
        self
    }

    /// Allows operators to close connections: one, or all of a user.
    pub fn allow_kick(mut self) -> Admin {
        self.actions.kick = true;
        self
    }

    /// Allows operators to close rooms.
    pub fn allow_close_room(mut self) -> Admin {
        self.actions.close_room = true;
        self
    }

    /// Allows operators to drain this node. A drain cannot be undone, and afterwards only a restart lets clients connect
    /// again.
    pub fn allow_drain(mut self, drain: Drain) -> Admin {
        self.actions.drain = Some(drain);
        self
    }

    /// Turns the settings into a service. By calling this, you confirm that only operators can reach it, because your
    /// middleware checks who sends a request, or because nobody else can connect to its address.
    pub fn guarded_by_host(self) -> AdminService {
        AdminService(Arc::new(Shared { admin: self, rates: Rates::default() }))
    }
}

/// What a request is for.
#[derive(Debug, Clone, Copy)]
enum Route {
    Page,
    Nodes,
    Rooms,
    Room,
    Connection,
    Users,
    Stats,
    Action(Action),
}

impl Route {
    fn of(path: &str) -> Option<Route> {
        Some(match path {
            "" => Route::Page,
            "nodes" => Route::Nodes,
            "rooms" => Route::Rooms,
            "room" => Route::Room,
            "connection" => Route::Connection,
            "users" => Route::Users,
            "stats" => Route::Stats,
            "kick" => Route::Action(Action::Kick),
            "close-room" => Route::Action(Action::CloseRoom),
            "drain" => Route::Action(Action::Drain),
            _ => return None,
        })
    }
}

impl Shared {
    async fn answer(&self, parts: &Parts) -> Result<Response<AssetBody>, Refused> {
        let Admin { rooms, actions, at } = &self.admin;
        let path = match at {
            Some(prefix) => prefix.strip_from(parts.uri.path()),
            None => Some(parts.uri.path().trim_matches('/')),
        };
        let route = path.and_then(Route::of).ok_or_else(|| {
            Refused::not_found(
                "there is nothing at this path. The view expects paths without the prefix that it is mounted at: \
                 remove it, as `nest_service` of axum does, or name it with `Admin::at`",
            )
        })?;
        let text = parts.uri.query().unwrap_or_default();
        if let Route::Action(action) = route {
            if parts.method != Method::POST {
                return Err(Refused::method("POST"));
            }
            check_source(parts)?;
            return actions.run(rooms, action, Query::parse(text)?).await.map(|value| answer::json(&value));
        }
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            return Err(Refused::method(READ));
        }
        let engine = rooms.engine();
        let value = match route {
            Route::Page | Route::Action(_) => return Ok(page::answer(text)),
            Route::Nodes => node::nodes(engine, actions, Query::parse(text)?).await?,
            Route::Rooms => views::rooms(engine, &self.rates, Query::parse(text)?).await?,
            Route::Room => views::room(engine, &self.rates, Query::parse(text)?).await?,
            Route::Connection => views::connection(engine, Query::parse(text)?)?,
            Route::Users => views::users(engine, Query::parse(text)?).await?,
            Route::Stats => node::stats(engine, Query::parse(text)?)?,
        };
        Ok(answer::json(&value))
    }
}

impl<B> Service<Request<B>> for AdminService {
    type Response = Response<AssetBody>;
    type Error = Infallible;
    type Future = AdminFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> AdminFuture {
        // The bodies of requests do not matter.
        let (shared, (parts, _)) = (self.0.clone(), request.into_parts());
        AdminFuture(Box::pin(async move {
            let mut response = shared.answer(&parts).await.unwrap_or_else(Refused::into_response);
            if parts.method == Method::HEAD {
                *response.body_mut() = AssetBody::empty();
            }
            response
        }))
    }
}

impl Future for AdminFuture {
    type Output = Result<Response<AssetBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map(Ok)
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Admin { actions, at, .. } = self;
        f.debug_struct("Admin").field("actions", actions).field("at", at).finish_non_exhaustive()
    }
}

impl fmt::Debug for AdminService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AdminService").field(&self.0.admin).finish()
    }
}

impl fmt::Debug for AdminFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminFuture").finish_non_exhaustive()
    }
}
