use super::*;
use http::Request;
use proptest::prelude::*;

fn request(host: &str, origin: Option<&str>) -> Parts {
    let request = Request::builder().uri("/chat").header("host", host);
    let request = origin.into_iter().fold(request, |request, origin| request.header("origin", origin));
    request.body(()).unwrap().into_parts().0
}

fn allow(origins: &Origins, host: &str, origin: &str) -> bool {
    origins.allow(&request(host, Some(origin)))
}

#[test]
fn by_default_pages_of_the_same_host_and_programs_may_connect() {
    let own = Origins::default();
    assert!(own.allow(&request("example.com", None)));
    for (host, origin) in [
        ("example.com", "https://example.com"),
        ("example.com", "http://example.com"),
        ("EXAMPLE.com", "https://example.COM"),
        ("example.com:443", "https://example.com"),
        ("example.com", "https://example.com:443"),
        ("example.com:80", "http://example.com"),
        ("example.com:8443", "https://example.com:8443"),
        ("127.0.0.1:3000", "http://127.0.0.1:3000"),
        ("[::1]:3000", "http://[::1]:3000"),
        ("[2001:DB8::1]", "https://[2001:db8::1]"),
    ] {
        assert!(allow(&own, host, origin), "{host} {origin}");
    }
    for (host, origin) in [
        ("example.com", "https://evil.example"),
        ("example.com", "https://sub.example.com"),
        ("example.com", "https://example.com.evil.example"),
        ("example.com", "https://evilexample.com"),
        ("example.com", "https://example.com:8443"),
        ("example.com:8443", "https://example.com"),
        // A host without a port has the default port of the origin's scheme.
        ("example.com:80", "https://example.com"),
        ("example.com", "null"),
        ("example.com", ""),
        ("example.com", "example.com"),
        ("example.com", "https://"),
        ("example.com", "://example.com"),
        ("example.com", "https://example.com/"),
        ("example.com", "https://example.com/path"),
        ("example.com", "https://example.com@evil.example"),
        ("example.com", "https://evil.example@example.com"),
        ("example.com", "https://example.com https://evil.example"),
        ("example.com", "https://example.com, https://evil.example"),
        ("example.com", "https://example.com:+443"),
        ("example.com", "https://example.com:99999"),
        ("example.com", "https://example.com."),
        // These are not web pages; with such a scheme the host can be anything.
        ("localhost", "capacitor://localhost"),
        ("abc", "chrome-extension://abc"),
        ("evil.example@example.com", "https://example.com"),
        ("", "https://example.com"),
    ] {
        assert!(!allow(&own, host, origin), "{host} {origin}");
    }
}

#[test]
fn two_origins_and_non_ascii_bytes_are_refused() {
    let mut twice = request("example.com", Some("https://example.com"));
    twice.headers.append("origin", "https://example.com".parse().unwrap());
    assert!(!Origins::same_host().allow(&twice));
    let mut bytes = request("example.com", None);
    bytes.headers.insert("origin", http::HeaderValue::from_bytes(b"https://example.com\xff").unwrap());
    assert!(!Origins::same_host().allow(&bytes));
}

#[test]
fn the_authority_of_the_uri_overrides_the_host_header() {
    let mut parts = request("evil.example", Some("https://example.com"));
    assert!(!Origins::same_host().allow(&parts));
    parts.uri = "https://example.com/chat".parse().unwrap();
    assert!(Origins::same_host().allow(&parts));
    parts.headers.remove("host");
    assert!(Origins::same_host().allow(&parts));
    parts.uri = "/chat".parse().unwrap();
    assert!(!Origins::same_host().allow(&parts));
}

#[test]
fn only_listed_origins_may_connect() {
    let list =
        Origins::list(["https://Example.com", "http://localhost:8080", "https://*.example.org", "app://x"])
            .unwrap();
    for origin in [
        "https://example.com",
        "https://example.com:443",
        "http://localhost:8080",
        "https://a.example.org",
        "https://a.b.example.org",
        "app://x",
    ] {
        assert!(allow(&list, "chat.example", origin), "{origin}");
    }
    for origin in [
        "http://example.com",
        "https://www.example.com",
        "http://localhost",
        "https://example.org",
        "https://.example.org",
        "https://evilexample.org",
        "http://a.example.org",
        "https://a.example.org:444",
        "app://y",
        "https://chat.example",
        "null",
    ] {
        assert!(!allow(&list, "chat.example", origin), "{origin}");
    }
    assert!(allow(&list.clone().and_same_host(), "chat.example", "https://chat.example"));
    assert!(list.allow(&request("chat.example", None)));
    assert!(!list.require_header().allow(&request("chat.example", None)));
}

#[test]
fn any_allows_every_origin() {
    for origin in ["null", "https://evil.example", "", "garbage"] {
        assert!(allow(&Origins::any(), "example.com", origin), "{origin}");
    }
    assert!(Origins::any().allow(&request("example.com", None)));
    assert!(!Origins::any().require_header().allow(&request("example.com", None)));
}

#[test]
fn malformed_origins_are_refused_with_a_hint() {
    for (bad, hint) in [
        ("*", "any()"),
        ("null", "any()"),
        ("example.com", "https://"),
        ("https://example.com/", "slash"),
        ("https://example.com/chat", "path"),
        ("https://bücher.example", "xn--"),
        ("https://", "malformed"),
        ("https://a@b", "malformed"),
        ("https://*", "malformed"),
        ("https://a.*.example.com", "malformed"),
        ("https://example.com:x", "malformed"),
        ("1s://example.com", "malformed"),
    ] {
        let error = Origins::list([bad]).unwrap_err().to_string();
        assert!(error.contains(hint) && error.contains(bad), "{bad}: {error}");
    }
}

proptest! {
    /// An origin that passes as the same host is the host without its scheme.
    #[test]
    fn only_the_own_host_passes(origin in "(https?://)?[a-zA-Z0-9.:@/\\[\\]-]{0,24}", port in prop::option::of(1u16..)) {
        let host = port.map_or("a.b".to_owned(), |port| format!("a.b:{port}"));
        for origin in [origin.clone(), format!("https://a.b{origin}"), format!("https://{origin}a.b")] {
            if allow(&Origins::same_host(), &host, &origin) {
                let rest = origin.to_ascii_lowercase();
                let rest = rest.strip_prefix("https://").or_else(|| rest.strip_prefix("http://")).unwrap();
                prop_assert!(rest == "a.b" || rest.strip_prefix("a.b:").unwrap().parse::<u16>().is_ok());
            }
        }
    }

    #[test]
    fn no_input_panics(origin in "[ -~]{0,40}", host in "[ -~]{0,30}") {
        let list = Origins::list(["https://*.a.b"]).unwrap().and_same_host();
        allow(&list, &host, &origin);
        let _ = Origins::list([&origin, &host]);
    }
}

#[test]
fn the_log_says_what_is_allowed() {
    let list = Origins::list(["https://a.example", "https://*.b.example:8443"]).unwrap();
    for (origins, text) in [
        (Origins::default(), "same host"),
        (Origins::any(), "any"),
        (list.clone(), "https://a.example, https://*.b.example:8443"),
        (
            list.and_same_host().require_header(),
            "https://a.example, https://*.b.example:8443, same host (header required)",
        ),
    ] {
        assert_eq!(origins.summary(), text);
    }
}
