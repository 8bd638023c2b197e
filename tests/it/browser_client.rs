//! The browser client as the crate serves it.

use axum::Router;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use serde_json::Value;
use tower::{Service, ServiceExt};
use tower_chat_rooms::ClientScript;

use crate::support::default_rooms;

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

async fn ask(method: Method, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri("/anything");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let response = default_rooms().client_script().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    Answer { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() }
}

#[tokio::test]
async fn it_is_served_as_an_es_module() {
    let answer = ask(Method::GET, &[]).await;
    assert_eq!(answer.status, StatusCode::OK);
    let script = str::from_utf8(&answer.body).unwrap();
    assert!(script.contains("\nexport function connect(url, options) {\n") && !script.contains("\nimport "));
    assert_eq!(answer.header("content-type"), "text/javascript; charset=utf-8");
    assert_eq!(answer.header("content-length"), script.len().to_string());
    assert_eq!(answer.header("cache-control"), "no-cache");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    let tag = answer.header("etag");
    assert!(tag.len() > 10 && tag.starts_with('"') && tag.ends_with('"'), "{tag} is not a strong tag");
}

#[tokio::test]
async fn head_has_the_same_headers_and_no_body() {
    let (get, head) = (ask(Method::GET, &[]).await, ask(Method::HEAD, &[]).await);
    assert_eq!((head.status, head.headers), (get.status, get.headers));
    assert_eq!(head.body, "");
}

#[tokio::test]
async fn a_known_etag_is_not_modified() {
    let script = ask(Method::GET, &[]).await;
    let tag = script.header("etag");
    let weak = format!("W/{tag}");
    let list = format!("\"a\" ,{tag}");
    for method in [Method::GET, Method::HEAD] {
        for known in [tag, &*weak, &*list, "*"] {
            let answer = ask(method.clone(), &[("if-none-match", known)]).await;
            assert_eq!((answer.status, &*answer.body), (StatusCode::NOT_MODIFIED, &b""[..]), "{known}");
            assert_eq!((answer.header("etag"), answer.header("cache-control")), (tag, "no-cache"));
            assert_eq!(answer.header("content-type"), "");
        }
    }
    let two = [("if-none-match", "\"a\""), ("if-none-match", tag)];
    assert_eq!(ask(Method::GET, &two).await.status, StatusCode::NOT_MODIFIED);
    for unknown in ["\"a\"", "", &tag[1..tag.len() - 1], "W/"] {
        let answer = ask(Method::GET, &[("if-none-match", unknown)]).await;
        assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, script.body.len()), "{unknown}");
    }
}

#[tokio::test]
async fn other_methods_are_refused() {
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::CONNECT] {
        let answer = ask(method, &[]).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!((answer.header("allow"), &*answer.body), ("GET, HEAD", &b"GET only\n"[..]));
        assert_eq!(answer.header("etag"), "");
    }
}

#[tokio::test]
async fn it_accepts_any_request_body_and_works_in_axum() {
    fn accepts<B>(_: &impl Service<Request<B>>) {}
    let script: ClientScript = default_rooms().client_script();
    accepts::<()>(&script);
    accepts::<Full<Bytes>>(&script);
    accepts::<hyper::body::Incoming>(&script);

    let length = ask(Method::GET, &[]).await.body.len();
    let app: Router = Router::new().route_service("/chat-rooms.js", script);
    let request = Request::head("/chat-rooms.js").body(axum::body::Body::empty()).unwrap();
    let response = app.oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-length"], length.to_string());
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "");
}

#[test]
fn the_npm_package_has_the_version_and_the_licence_of_the_crate() {
    let read =
        |path| std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/").to_owned() + path).unwrap();
    let package: Value = serde_json::from_str(&read("src/browser/package.json")).unwrap();
    assert_eq!(package["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(package["license"], env!("CARGO_PKG_LICENSE"));
    assert_eq!(read("src/browser/LICENSE"), read("LICENSE"));
}
