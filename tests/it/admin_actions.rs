//! What the admin view may do, and who may ask for it.

use std::time::Duration;

use axum::body::Body;
use http::{Method, Request, StatusCode};
use serde_json::json;
use tower::ServiceExt;
use tower_chat_rooms::{Admin, Admission, ChatRooms, Drain, Health, User};

use crate::admin::{Answer, ask};
use crate::support::{Client, default_rooms, events_arrive};

#[allow(dead_code, reason = "its `main` is not called")]
#[path = "../../examples/admin.rs"]
mod example;

const OWN: &[(&str, &str)] = &[("x-chat-admin", "1")];

async fn post(admin: &Admin, uri: &str) -> Answer {
    ask(admin, Method::POST, uri, OWN).await
}

fn all_allowed(rooms: &ChatRooms) -> Admin {
    rooms.admin().allow_kick().allow_close_room().allow_drain(Drain::over(Duration::ZERO))
}

#[tokio::test(start_paused = true)]
async fn by_default_the_view_is_read_only() {
    let rooms = default_rooms();
    let ann = Client::enter(&rooms, "ann", "r").await;
    let id = rooms.members("r")[0].connection;
    for (uri, setting) in [
        (format!("/kick?connection={id}"), "Admin::allow_kick"),
        ("/close-room?id=r".into(), "Admin::allow_close_room"),
        ("/drain".into(), "Admin::allow_drain"),
    ] {
        let answer = post(&rooms.admin(), &uri).await;
        assert_eq!((answer.status, &answer.json()["error"]), (StatusCode::FORBIDDEN, &json!("not_allowed")));
        assert!(answer.text.contains(setting), "{}", answer.text);
    }
    assert!(rooms.members("r").len() == 1 && !rooms.is_draining());
    drop(ann);
}

#[tokio::test(start_paused = true)]
async fn each_action_is_allowed_separately() {
    let rooms = default_rooms();
    let admin = rooms.admin().allow_close_room();
    let actions = ask(&admin, Method::GET, "/nodes", &[]).await.json()["actions"].clone();
    assert_eq!(actions, json!(["close-room"]));
    assert_eq!(post(&admin, "/kick?user=u").await.status, StatusCode::FORBIDDEN);
    assert_eq!(post(&admin, "/close-room?id=r").await.json(), json!({"members": 0}));
    let actions = ask(&all_allowed(&rooms), Method::GET, "/nodes", &[]).await.json()["actions"].clone();
    assert_eq!(actions, json!(["kick", "close-room", "drain"]));
}

#[tokio::test(start_paused = true)]
async fn the_view_kicks_connections_and_users_and_closes_rooms() {
    let rooms = default_rooms();
    let admin = all_allowed(&rooms);
    let mut ann = Client::enter(&rooms, "ann", "a").await;
    let mut bob = Client::enter(&rooms, "bob", "b").await;
    let mut cid = Client::connect_as(&rooms, Admission::user(User::new("u/1")), 4096).await;
    while !rooms.is_online("u/1") {
        tokio::task::yield_now().await;
    }
    let uri = format!("/kick?connection={}", rooms.members("a")[0].connection);
    assert_eq!(post(&admin, &uri).await.json(), json!({"sessions": 1}));
    assert_eq!(ann.close_code().await, 4500);
    assert_eq!(post(&admin, &uri).await.status, StatusCode::NOT_FOUND);
    assert_eq!(post(&admin, "/kick?user=u%2f1").await.json(), json!({"sessions": 1}));
    assert_eq!(cid.close_code().await, 4500);
    assert_eq!(post(&admin, "/close-room?id=b").await.json(), json!({"members": 1}));
    assert_eq!(bob.close_code().await, 4501);
    for uri in ["/kick", "/kick?connection=x", "/kick?user=a&connection=1", "/close-room", "/drain?x=1"] {
        assert_eq!(post(&admin, uri).await.status, StatusCode::BAD_REQUEST, "{uri}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_view_drains_the_node() {
    let rooms = default_rooms();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let answer = post(&all_allowed(&rooms), "/drain").await;
    assert_eq!(answer.json(), json!({"connections": 1, "closed": 0}));
    assert_eq!((ann.close_code().await, rooms.health()), (1012, Health::Draining));
    events_arrive().await;
    let node = ask(&rooms.admin(), Method::GET, "/nodes", &[]).await.json();
    assert_eq!(node["health"]["state"], "draining");
}

#[tokio::test(start_paused = true)]
async fn a_page_of_another_site_can_do_nothing() {
    let rooms = default_rooms();
    let _ann = Client::enter(&rooms, "ann", "r").await;
    let admin = all_allowed(&rooms);
    let uri = format!("/kick?connection={}", rooms.members("r")[0].connection);
    let header = ("x-chat-admin", "1");
    for headers in [
        &[][..],
        &[("origin", "http://ops.example")],
        &[header, ("origin", "https://evil.example")],
        &[header, ("origin", "null")],
        &[header, ("origin", "http://ops.example:8080")],
        &[header, ("sec-fetch-site", "cross-site")],
        &[header, ("sec-fetch-site", "same-site")],
    ] {
        let answer = ask(&admin, Method::POST, &uri, headers).await;
        assert_eq!((answer.status, &answer.json()["error"]), (StatusCode::FORBIDDEN, &json!("foreign")));
    }
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let answer = ask(&admin, method, &uri, OWN).await;
        assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
    }
    let answer = post(&admin, "/rooms").await;
    assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD"));
    assert_eq!(rooms.members("r").len(), 1);
    let own = [header, ("origin", "http://ops.example"), ("sec-fetch-site", "same-origin")];
    assert_eq!(ask(&admin, Method::POST, &uri, &own).await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_example_lets_only_operators_in() {
    let rooms = default_rooms();
    let app = example::app(&rooms, "sesame");
    for (value, status) in [
        ("", StatusCode::UNAUTHORIZED),
        ("Bearer wrong!", StatusCode::UNAUTHORIZED),
        ("Bearer sesame", StatusCode::OK),
        // ops:sesame
        ("Basic b3BzOnNlc2FtZQ==", StatusCode::OK),
        ("Basic b3BzOm90aGVy", StatusCode::UNAUTHORIZED),
        ("Basic !", StatusCode::UNAUTHORIZED),
    ] {
        for path in ["/admin", "/admin/", "/admin/rooms", "/admin?page.js"] {
            let request = Request::get(path).header("authorization", value).body(Body::empty()).unwrap();
            assert_eq!(app.clone().oneshot(request).await.unwrap().status(), status, "{path} {value}");
        }
    }
    let chat = Request::get("/").body(Body::empty()).unwrap();
    assert_eq!(app.oneshot(chat).await.unwrap().status(), StatusCode::OK);
}
