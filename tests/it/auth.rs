//! The auth hook: upgrade requests and tokens.

use std::time::Duration;

use http::request::Parts;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::time::Instant;
use tower_chat_rooms::{
    Admission, AuthRefusal, Authenticate, ChatRooms, Claims, Denied, EnterRequest, JwtAlgorithm, JwtAuth,
    Timeouts, User,
};

use crate::client::{Client, assert_empty};

const SECRET: &str = "thirty-two bytes of secret, or so";

async fn by_token(token: String) -> Result<User, Denied> {
    match token.split_once(':') {
        Some((id, "")) => Ok(User::new(id)),
        Some((id, name)) => Ok(User::new(id).with_name(name)),
        None => Err(Denied::new("no such token")),
    }
}

fn guarded() -> ChatRooms {
    ChatRooms::builder().auth(by_token).build().unwrap()
}

async fn guest(rooms: &ChatRooms) -> Client {
    Client::connect_as(rooms, Admission::pending_auth(), 4096).await
}

#[tokio::test(start_paused = true)]
async fn nothing_is_done_before_authentication() {
    let rooms = guarded();
    let mut ann = guest(&rooms).await;
    for event in ["enter", "message", "draw"] {
        ann.say(json!({"event": event, "message": "ann", "roomId": "r"})).await;
        let answer = ann.next().await;
        assert_eq!(answer["event"], "noAuth");
        assert_eq!(answer.as_object().unwrap().len(), 2);
    }
    assert!(rooms.rooms().is_empty());
    ann.say(json!({"event": "auth", "message": "wrong"})).await;
    assert_eq!(ann.next().await, json!({"event": "noAuth", "message": "no such token"}));
    ann.say(json!({"event": "auth", "message": "u1:"})).await;
    ann.say(json!({"event": "enter", "message": "ann", "roomId": "r"})).await;
    assert_eq!(ann.next().await["num"], 1);
    assert_eq!(rooms.members("r")[0].user.as_ref().unwrap().id(), "u1");
}

#[tokio::test(start_paused = true)]
async fn tokens_are_not_relayed() {
    let rooms = guarded();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    assert_eq!(ann.next().await["name"], "bob");
    bob.say(json!({"event": "auth", "message": "u2:"})).await;
    bob.text(r#"{"ev\u0065nt":"a\u0075th","message":"u2:"}"#).await;
    bob.say(json!({"event": "message", "message": "done"})).await;
    assert_eq!(ann.next().await["message"], "done");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_authenticates_is_closed() {
    let rooms = ChatRooms::builder()
        .auth(by_token)
        .timeouts(Timeouts::default().auth_timeout(Duration::from_secs(3)))
        .build()
        .unwrap();
    let mut ann = guest(&rooms).await;
    let begin = Instant::now();
    assert_eq!(ann.closed().await, 4502);
    assert_eq!(begin.elapsed(), Duration::from_secs(3));
    // After authentication, the time to enter begins.
    let mut bob = guest(&rooms).await;
    bob.say(json!({"event": "auth", "message": "u2:"})).await;
    let begin = Instant::now();
    assert_eq!(bob.closed().await, 4002);
    assert_eq!(begin.elapsed(), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn too_many_wrong_tokens_close_the_connection() {
    let rooms = guarded();
    let mut eve = guest(&rooms).await;
    for n in 0..8 {
        eve.say(json!({"event": "auth", "message": format!("guess{n}")})).await;
    }
    let (before, code) = eve.closed_after().await;
    assert_eq!((before.len(), code), (8, 1008));
}

#[tokio::test(start_paused = true)]
async fn the_users_name_overrides_the_clients() {
    let rooms = guarded();
    let mut eve = guest(&rooms).await;
    eve.say(json!({"event": "auth", "message": "u3:Eve"})).await;
    eve.text(r#"{"event":"enter","message":"ann","roomId":1,"color":"red"}"#).await;
    assert_eq!(
        eve.next_text().await,
        r#"{"event":"enter","roomId":1,"color":"red","message":"Eve","name":"Eve","num":1}"#
    );
    // A token of another user is refused; one of the same user is accepted.
    eve.say(json!({"event": "auth", "message": "u4:Ann"})).await;
    assert_eq!(eve.next().await["event"], "noAuth");
    eve.say(json!({"event": "auth", "message": "u3:Eve"})).await;
    eve.say(json!({"event": "message", "message": "still Eve"})).await;
    assert_eq!(eve.next().await["name"], "Eve");
}

struct MyAuth;

impl Authenticate for MyAuth {
    async fn on_token(&self, token: &str) -> Result<User, Denied> {
        match token {
            "panic" => panic!("on purpose"),
            "hang" => std::future::pending().await,
            "late" => tokio::time::sleep(Duration::from_secs(5)).await,
            _ => {}
        }
        Ok(User::new(token))
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_ends_only_its_connection() {
    let rooms = ChatRooms::builder().auth(MyAuth).build().unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let mut eve = guest(&rooms).await;
    eve.say(json!({"event": "auth", "message": "panic"})).await;
    assert_eq!(eve.closed().await, 1011);
    ann.say(json!({"event": "message", "message": "alive"})).await;
    assert_eq!(ann.next().await["message"], "alive");
}

#[tokio::test(start_paused = true)]
async fn a_slow_hook_does_not_delay_heartbeats() {
    let rooms = ChatRooms::builder()
        .auth(MyAuth)
        .timeouts(Timeouts::default().auth_timeout(Duration::from_secs(60)))
        .build()
        .unwrap();
    let mut ann = guest(&rooms).await;
    ann.say(json!({"event": "auth", "message": "late"})).await;
    // Messages sent meanwhile wait for the answer, most of them unread.
    ann.say(json!({"event": "enter", "message": "ann", "roomId": "r"})).await;
    for n in 0..40 {
        ann.say(json!({"event": "message", "message": n})).await;
    }
    assert_eq!(ann.next().await["event"], "enter");
    for n in 0..40 {
        assert_eq!(ann.next().await["message"], n);
    }
    // A hook that never answers counts as a refusal after a while.
    ann.say(json!({"event": "auth", "message": "hang"})).await;
    let begin = Instant::now();
    assert_eq!(ann.next().await["event"], "noAuth");
    assert_eq!(begin.elapsed(), Duration::from_secs(10));
    ann.say(json!({"event": "auth", "message": "hang"})).await;
    ann.vanish().await;
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_while_a_hook_hangs_is_noticed() {
    let rooms = ChatRooms::builder().auth(MyAuth).build().unwrap();
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    assert_eq!(bob.next().await["name"], "ann");
    ann.polite = false;
    ann.say(json!({"event": "auth", "message": "hang"})).await;
    let begin = Instant::now();
    assert_eq!(bob.next().await, json!({"event": "out", "name": "ann", "num": 1}));
    assert!(begin.elapsed() <= Duration::from_secs(2));
}

fn token(claims: Value) -> String {
    encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

fn soon() -> u64 {
    jsonwebtoken::get_current_timestamp() + 600
}

fn request(name: &str, value: &str) -> Parts {
    http::Request::builder().uri("/chat").header(name, value).body(()).unwrap().into_parts().0
}

async fn user_of(auth: &JwtAuth, request: &Parts) -> Result<String, AuthRefusal> {
    let admission = auth.on_upgrade(request).await?;
    let rooms = ChatRooms::builder().build().unwrap();
    let mut client = Client::connect_as(&rooms, admission, 4096).await;
    client.say(json!({"event": "enter", "message": "claimed", "roomId": "r"})).await;
    let answer = client.next().await;
    if answer["event"] == "noAuth" {
        return Ok("nobody".into());
    }
    let user = rooms.members("r")[0].user.clone();
    Ok(format!("{} as {}", user.unwrap().id(), answer["name"].as_str().unwrap()))
}

#[tokio::test(start_paused = true)]
async fn tokens_are_found_in_every_source() {
    let auth = JwtAuth::hs256(SECRET).unwrap().with_cookie("sid").with_query("token");
    let good = token(json!({"sub": "u1", "name": "Ann", "exp": soon()}));
    for (header, value) in [
        ("authorization", format!("Bearer {good}")),
        ("authorization", format!("bearer {good}")),
        ("cookie", format!("a=b; sid={good}; c=d")),
        ("cookie", format!("sid=\"{good}\"")),
        ("sec-websocket-protocol", format!("chat-rooms, bearer.{good}")),
    ] {
        assert_eq!(user_of(&auth, &request(header, &value)).await.unwrap(), "u1 as Ann", "{header}");
    }
    let mut in_query = request("host", "x");
    in_query.uri = format!("/chat?x=1&token={good}").parse().unwrap();
    assert_eq!(user_of(&auth, &in_query).await.unwrap(), "u1 as Ann");
    assert_eq!(user_of(&auth, &request("authorization", "Basic eDp5")).await.unwrap(), "nobody");
    let plain = JwtAuth::hs256(SECRET).unwrap();
    assert_eq!(user_of(&plain, &in_query).await.unwrap(), "nobody");
}

#[tokio::test(start_paused = true)]
async fn invalid_tokens_are_refused() {
    let auth = JwtAuth::hs256(SECRET).unwrap().with_issuer("me").with_audience("chat");
    let right = json!({"sub": "u1", "exp": soon(), "iss": "me", "aud": "chat"});
    assert!(auth.on_token(&token(right.clone())).await.is_ok());
    let with = |key: &str, value: Value| {
        let mut claims = right.clone();
        claims[key] = value;
        token(claims)
    };
    let without = |key: &str| {
        let mut claims = right.clone();
        claims.as_object_mut().unwrap().remove(key);
        token(claims)
    };
    let key = EncodingKey::from_secret(b"another secret of thirty-two bytes");
    let forged = encode(&Header::default(), &right, &key).unwrap();
    let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1MSJ9.";
    for (token, why) in [
        (with("exp", json!(1_000_000)), "expired"),
        (with("iss", json!("you")), "issuer"),
        (with("aud", json!("mail")), "audience"),
        (with("nbf", json!(soon())), "not valid yet"),
        (without("exp"), "\"exp\""),
        (without("iss"), "\"iss\""),
        (without("aud"), "\"aud\""),
        (without("sub"), "\"sub\""),
        (forged.clone(), "signature"),
        (none.into(), "not valid"),
        ("a.b.c".into(), "not valid"),
        (String::new(), "not valid"),
    ] {
        let denied = auth.on_token(&token).await.unwrap_err();
        assert!(denied.reason().contains(why), "{why}: {denied}");
        assert!(token.len() < 8 || !denied.reason().contains(&token));
    }
    let refusal = auth.on_upgrade(&request("authorization", &format!("Bearer {forged}"))).await.unwrap_err();
    assert_eq!(refusal.status(), 401);
    // A token of another algorithm, signed with the same secret.
    let hs512 = Header::new(jsonwebtoken::Algorithm::HS512);
    let other = encode(&hs512, &right, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap();
    assert!(auth.on_token(&other).await.unwrap_err().reason().contains("algorithm"));
}

#[test]
fn an_invalid_configuration_is_an_error() {
    assert!(JwtAuth::hs256("x".repeat(31)).unwrap_err().to_string().contains("32 bytes"));
    assert!(JwtAuth::hs384("x".repeat(47)).unwrap_err().to_string().contains("48 bytes"));
    assert!(JwtAuth::hs512("x".repeat(63)).unwrap_err().to_string().contains("64 bytes"));
    assert!(JwtAuth::from_pem(JwtAlgorithm::Rs256, "no pem").is_err());
    assert!(JwtAuth::from_pem(JwtAlgorithm::Rs256, include_str!("keys/ed25519.pub.pem")).is_err());
    assert!(JwtAuth::from_pem(JwtAlgorithm::Es384, include_str!("keys/p256.pub.pem")).is_err());
}

#[tokio::test]
async fn tokens_are_verified_with_public_keys() {
    use JwtAlgorithm::*;
    use jsonwebtoken::Algorithm;
    let rsa = (include_str!("keys/rsa.pem"), include_str!("keys/rsa.pub.pem"));
    let p256 = (include_str!("keys/p256.pem"), include_str!("keys/p256.pub.pem"));
    let p384 = (include_str!("keys/p384.pem"), include_str!("keys/p384.pub.pem"));
    let ed = (include_str!("keys/ed25519.pem"), include_str!("keys/ed25519.pub.pem"));
    for (ours, theirs, (private, public)) in [
        (Rs256, Algorithm::RS256, rsa),
        (Rs384, Algorithm::RS384, rsa),
        (Rs512, Algorithm::RS512, rsa),
        (Ps256, Algorithm::PS256, rsa),
        (Ps384, Algorithm::PS384, rsa),
        (Ps512, Algorithm::PS512, rsa),
        (Es256, Algorithm::ES256, p256),
        (Es384, Algorithm::ES384, p384),
        (EdDsa, Algorithm::EdDSA, ed),
    ] {
        let key = match ours {
            EdDsa => EncodingKey::from_ed_pem(private.as_bytes()),
            Es256 | Es384 => EncodingKey::from_ec_pem(private.as_bytes()),
            _ => EncodingKey::from_rsa_pem(private.as_bytes()),
        };
        let claims = json!({"sub": 17, "exp": soon()});
        let token = encode(&Header::new(theirs), &claims, &key.unwrap()).unwrap();
        let auth = JwtAuth::from_pem(ours, public).unwrap();
        assert_eq!(auth.on_token(&token).await.unwrap().id(), "17", "{ours:?}");
        // The public key as an HMAC secret: algorithm confusion.
        let mixed = EncodingKey::from_secret(public.as_bytes());
        let token = encode(&Header::default(), &claims, &mixed).unwrap();
        assert!(auth.on_token(&token).await.is_err(), "{ours:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn hooks_see_the_claims() {
    #[derive(serde::Deserialize)]
    struct Mine {
        role: String,
    }
    let rooms = ChatRooms::builder()
        .auth(JwtAuth::hs256(SECRET).unwrap())
        .policy(|request: &EnterRequest<'_>| {
            let claims = request.user().and_then(|u| u.get::<Claims>());
            match claims.and_then(|c| c.parse::<Mine>().ok()) {
                Some(mine) if mine.role == "staff" => Ok(()),
                _ => Err(Denied::new("staff only")),
            }
        })
        .build()
        .unwrap();
    for (role, event) in [("staff", "enter"), ("guest", "error")] {
        let mut client = guest(&rooms).await;
        let token = token(json!({"sub": "u1", "exp": soon(), "role": role}));
        client.say(json!({"event": "auth", "message": token})).await;
        client.say(json!({"event": "enter", "message": "x", "roomId": "r"})).await;
        assert_eq!(client.next().await["event"], event);
    }
}
