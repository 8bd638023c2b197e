//! JSON Web Tokens: where they are found, and how they are verified.

use http::request::Parts;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use tower_chat_rooms::{
    Admission, AuthRefusal, Authenticate, Claims, Denied, EnterRequest, JwtAlgorithm, JwtAuth,
};

use crate::support::{Client, LogCapture, builder};

const SECRET: &str = "thirty-two bytes of secret, or so";

fn token(claims: Value) -> String {
    encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

fn in_ten_minutes() -> u64 {
    jsonwebtoken::get_current_timestamp() + 600
}

fn request(name: &str, value: &str) -> Parts {
    http::Request::builder().uri("/chat").header(name, value).body(()).unwrap().into_parts().0
}

async fn user_of(auth: &JwtAuth, request: &Parts) -> Result<String, AuthRefusal> {
    let admission = auth.on_upgrade(request).await?;
    let rooms = builder().build().unwrap();
    let mut client = Client::connect_as(&rooms, admission, 4096).await;
    client.send(json!({"event": "enter", "message": "claimed", "roomId": "r"})).await;
    let answer = client.next().await;
    if answer["event"] == "noAuth" {
        return Ok("not authenticated".into());
    }
    let user = rooms.members("r")[0].user.clone();
    Ok(format!("{} as {}", user.unwrap().id(), answer["name"].as_str().unwrap()))
}

#[tokio::test(start_paused = true)]
async fn tokens_are_found_in_every_source() {
    let auth = JwtAuth::hs256(SECRET).unwrap().with_cookie("sid").with_query("token");
    let good = token(json!({"sub": "u1", "name": "Ann", "exp": in_ten_minutes()}));
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
    assert_eq!(user_of(&auth, &request("authorization", "Basic eDp5")).await.unwrap(), "not authenticated");
    let plain = JwtAuth::hs256(SECRET).unwrap();
    assert_eq!(user_of(&plain, &in_query).await.unwrap(), "not authenticated");
}

#[tokio::test(start_paused = true)]
async fn an_optional_token_lets_anonymous_clients_in() {
    let auth = JwtAuth::hs256(SECRET).unwrap().with_optional_token();
    let rooms = builder().auth(auth.clone()).build().unwrap();
    let admission = auth.on_upgrade(&request("host", "x")).await.unwrap();
    let mut guest = Client::connect_as(&rooms, admission, 4096).await;
    guest.send(json!({"event": "enter", "message": "guest", "roomId": "r"})).await;
    assert_eq!(guest.next().await["event"], "enter");
    assert!(rooms.members("r")[0].user.is_none());
    let good = token(json!({"sub": "u1", "exp": in_ten_minutes()}));
    guest.send(json!({"event": "auth", "message": good})).await;
    guest.send(json!({"event": "message", "message": "done"})).await;
    assert_eq!(guest.next().await["message"], "done");
    assert_eq!(rooms.members("r")[0].user.as_ref().unwrap().id(), "u1");
    let refused = auth.on_upgrade(&request("authorization", "Bearer x.y.z")).await;
    assert_eq!(refused.unwrap_err().status(), 401);
}

#[tokio::test(start_paused = true)]
async fn invalid_tokens_are_refused() {
    let auth = JwtAuth::hs256(SECRET).unwrap().with_issuer("me").with_audience("chat");
    let right = json!({"sub": "u1", "exp": in_ten_minutes(), "iss": "me", "aud": "chat"});
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
        (with("nbf", json!(in_ten_minutes())), "not valid yet"),
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
    for (algorithm, header_algorithm, (private, public)) in [
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
        let key = match algorithm {
            EdDsa => EncodingKey::from_ed_pem(private.as_bytes()),
            Es256 | Es384 => EncodingKey::from_ec_pem(private.as_bytes()),
            _ => EncodingKey::from_rsa_pem(private.as_bytes()),
        };
        let claims = json!({"sub": 17, "exp": in_ten_minutes()});
        let token = encode(&Header::new(header_algorithm), &claims, &key.unwrap()).unwrap();
        let auth = JwtAuth::from_pem(algorithm, public).unwrap();
        assert_eq!(auth.on_token(&token).await.unwrap().id(), "17", "{algorithm:?}");
        // The public key as an HMAC secret: algorithm confusion.
        let mixed = EncodingKey::from_secret(public.as_bytes());
        let token = encode(&Header::default(), &claims, &mixed).unwrap();
        assert!(auth.on_token(&token).await.is_err(), "{algorithm:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn hooks_see_the_claims() {
    #[derive(serde::Deserialize)]
    struct Mine {
        role: String,
    }
    let rooms = builder()
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
        let mut client = Client::connect_as(&rooms, Admission::pending_auth(), 4096).await;
        let token = token(json!({"sub": "u1", "exp": in_ten_minutes(), "role": role}));
        client.send(json!({"event": "auth", "message": token})).await;
        client.send(json!({"event": "enter", "message": "x", "roomId": "r"})).await;
        assert_eq!(client.next().await["event"], event);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_token_is_logged_with_the_places_where_it_could_be() {
    let (plain, log) = (JwtAuth::hs256(SECRET).unwrap(), LogCapture::default());
    let auth = plain.clone().with_cookie("sid").with_query("token");
    let _listening = log.listen("tower_chat_rooms=debug");
    // Not a bearer token, and not the cookie.
    for (header, value) in [("authorization", "Basic c2VjcmV0"), ("cookie", "other=c2VjcmV0")] {
        auth.on_upgrade(&request(header, value)).await.unwrap();
    }
    let places = "`Authorization: Bearer`, a subprotocol `bearer.TOKEN`";
    let all = format!("looked_in={places}, the cookie \"sid\", the query parameter \"token\"");
    assert_eq!((log.count(&all), log.count("no token in the request")), (2, 2), "{}", log.text());
    plain.on_upgrade(&request("cookie", "sid=c2VjcmV0")).await.unwrap();
    let good = token(json!({"sub": "u1", "exp": in_ten_minutes()}));
    plain.on_upgrade(&request("authorization", &format!("Bearer {good}"))).await.unwrap();
    assert_eq!((log.count(places), log.count("cookie")), (3, 2), "{}", log.text());
    assert!(!log.text().contains("c2VjcmV0") && !log.text().contains(&good));
}
