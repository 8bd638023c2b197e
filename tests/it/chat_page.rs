//! The chat page as the crate serves it.

use axum::Router;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use tower::ServiceExt;
use tower_chat_rooms::ChatPage;

use crate::support::default_rooms;

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

async fn ask(page: ChatPage, method: Method, uri: &str) -> Answer {
    let request = Request::builder().method(method).uri(uri).body(Empty::<Bytes>::new()).unwrap();
    let (parts, body) = page.oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer { status: parts.status, headers: parts.headers, body: String::from_utf8(body.into()).unwrap() }
}

async fn get(uri: &str) -> Answer {
    ask(default_rooms().page(), Method::GET, uri).await
}

#[tokio::test]
async fn its_policy_allows_its_own_files_and_nothing_inline() {
    let page = get("/app/chat?room=tea&lang=zh").await;
    assert_eq!((page.status, page.header("content-type")), (StatusCode::OK, "text/html; charset=utf-8"));
    let policy: Vec<&str> = page.header("content-security-policy").split("; ").collect();
    for directive in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
    ] {
        assert!(policy.contains(&directive), "{directive} is not in {policy:?}");
    }
    assert!(!page.header("content-security-policy").contains("unsafe"));
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
}

/// Wherever it is mounted, its files have its own address with another query.
#[tokio::test]
async fn it_brings_the_files_that_it_refers_to() {
    let page = get("/anywhere").await;
    let files = [
        ("page.js", "text/javascript; charset=utf-8"),
        ("page.css", "text/css; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ];
    let references = page.body.matches("=\"?").count();
    assert_eq!(references, files.len());
    for (name, kind) in files {
        assert!(page.body.contains(&format!("=\"?{name}\"")), "{name}");
        let file = get(&format!("/anywhere?{name}")).await;
        assert_eq!((file.status, file.header("content-type")), (StatusCode::OK, kind));
        assert_eq!(
            (file.header("cache-control"), file.header("x-content-type-options")),
            ("no-cache", "nosniff")
        );
        assert!(file.header("etag").starts_with('"') && file.body.len() > 100);
        assert_ne!(file.body, page.body);
    }
}

#[tokio::test]
async fn only_get_and_head_are_allowed() {
    let (page, head) = (get("/").await, ask(default_rooms().page(), Method::HEAD, "/").await);
    assert_eq!((head.status, head.headers, &*head.body), (page.status, page.headers, ""));
    for uri in ["/", "/?page.js"] {
        let refused = ask(default_rooms().page(), Method::POST, uri).await;
        assert_eq!((refused.status, refused.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD"));
    }
}

#[tokio::test]
async fn its_tag_changes_with_its_settings() {
    let (plain, again) = (get("/").await, get("/").await);
    assert_eq!(plain.header("etag"), again.header("etag"));
    let titled = ask(default_rooms().page().with_title("Support"), Method::GET, "/").await;
    assert_ne!(plain.header("etag"), titled.header("etag"));
    assert!(titled.body.contains(r#"content="Support""#));
}

#[tokio::test]
async fn it_works_in_axum() {
    let rooms = default_rooms();
    let app: Router = Router::new().route_service("/", rooms.page()).route_service("/chat", rooms.service());
    let request = Request::get("/?page.css").body(axum::body::Body::empty()).unwrap();
    let response = app.oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/css; charset=utf-8");
}

#[test]
#[should_panic(expected = "is not a path")]
fn a_chat_at_another_origin_is_refused() {
    let _page = default_rooms().page().with_chat_path("wss://example.com/chat");
}
