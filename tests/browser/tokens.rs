//! A server that asks for JSON Web Tokens.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

use crate::devtools::Browser;
use crate::page::Page;
use crate::server::Server;
use crate::tab::Tab;

const SECRET: &str = "a secret of the tests, which nobody else uses";

#[tokio::test]
async fn a_token_in_the_address_lets_in_under_its_name() {
    let (server, browser) = (start().await, Browser::new().await);
    let page = Page::open_at(&browser, &format!("{}#token={}", server.url(), token(SECRET))).await;
    assert_eq!(page.value("location.hash").await, "", "the token stays in the address bar");

    page.enter("Somebody", "tea").await;
    page.say("hello").await;

    page.until_texts(&["You joined as Ann", "Ann: hello"]).await;
    assert_eq!(page.own_texts().await, ["hello"]);
    page.assert_no_complaints().await;
}

#[tokio::test]
async fn a_token_in_its_field_lets_in() {
    let (server, browser) = (start().await, Browser::new().await);
    let page = Page::open(&browser, &server).await;

    page.tab.click("#more summary").await;
    page.tab.until("document.querySelector('#token').checkVisibility()").await;
    page.fill("#token", &token(SECRET)).await;
    page.enter("Somebody", "tea").await;

    page.until_texts(&["You joined as Ann"]).await;
}

#[tokio::test]
async fn without_a_good_token_one_is_told_so() {
    let (server, browser) = (start().await, Browser::new().await);
    let page = Page::open(&browser, &server).await;

    page.submit("Ann", "tea").await;
    assert_refused(&page, "This server requires an access token.").await;

    let forged = token("another secret, which the server knows nothing of");
    page.fill("#token", &forged).await;
    page.tab.click("#enter").await;
    assert_refused(&page, "The server does not accept this access token.").await;

    page.fill("#token", &token(SECRET)).await;
    page.tab.click("#enter").await;
    page.until_state("online").await;
    page.until_texts(&["You joined as Ann"]).await;
}

/// The form is back, says why, and shows where the token belongs.
async fn assert_refused(page: &Page, why: &str) {
    page.tab.until(&format!("document.querySelector('#problem').textContent.startsWith('{why}')")).await;
    assert_eq!(page.value("document.querySelector('#problem').checkVisibility()").await, true);
    assert_eq!(page.state().await, "closed");
    assert_eq!(page.value("document.querySelector('#token').checkVisibility()").await, true);
    assert_eq!(page.value("document.activeElement.id").await, "token");
    assert_eq!(page.value("document.querySelector('#chat').checkVisibility()").await, false);
}

async fn start() -> Server {
    Server::start_with(&["--jwt-secret", SECRET]).await
}

fn token(secret: &str) -> String {
    let in_an_hour = SystemTime::now() + Duration::from_secs(3600);
    let exp = in_an_hour.duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs();
    let claims = json!({"sub": "user-1", "name": "Ann", "exp": exp});
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::default(), &claims, &key).expect("a token is signed")
}
