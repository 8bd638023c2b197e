//! Key sets: each key has one algorithm, which a token cannot change, and sets can be replaced.

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use serde_json::{Value, json};
use tower_chat_rooms::{Authenticate, JwtAlgorithm, JwtAuth, JwtKeys};

use crate::support::{Client, builder};

const SECRET: &str = "thirty-two bytes of secret, or so";

const RSA: (&str, &str) = (include_str!("keys/rsa.pem"), include_str!("keys/rsa.pub.pem"));

fn rsa() -> EncodingKey {
    EncodingKey::from_rsa_pem(RSA.0.as_bytes()).unwrap()
}

fn p256() -> EncodingKey {
    EncodingKey::from_ec_pem(include_bytes!("keys/p256.pem")).unwrap()
}

fn p384() -> EncodingKey {
    EncodingKey::from_ec_pem(include_bytes!("keys/p384.pem")).unwrap()
}

fn ed() -> EncodingKey {
    EncodingKey::from_ed_pem(include_bytes!("keys/ed25519.pem")).unwrap()
}

/// The public key of a key pair, as in a set.
fn jwk(key: &EncodingKey, algorithm: Algorithm, kid: &str) -> Value {
    let mut jwk = serde_json::to_value(Jwk::from_encoding_key(key, algorithm).unwrap()).unwrap();
    jwk["kid"] = kid.into();
    jwk["use"] = "sig".into();
    jwk
}

fn set(keys: &[Value]) -> String {
    json!({"keys": keys}).to_string()
}

fn claims() -> Value {
    json!({"sub": "u1", "exp": get_current_timestamp() + 600})
}

fn header(algorithm: Algorithm, kid: Option<&str>) -> Header {
    Header { kid: kid.map(Into::into), ..Header::new(algorithm) }
}

fn signed(header: &Header, key: &EncodingKey) -> String {
    encode(header, &claims(), key).unwrap()
}

/// A token with this header, correctly signed.
fn with_header(header: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let message = format!("{}.{}", base64url(header), base64url(&claims().to_string()));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

fn base64url(text: &str) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits = chunk.iter().fold(0, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        out.extend((0..=chunk.len()).map(|n| char::from(DIGITS[(bits >> (18 - 6 * n) & 63) as usize])));
    }
    out
}

/// The user, or the reason of the refusal.
async fn check(auth: &JwtAuth, token: &str) -> Result<String, String> {
    match auth.on_token(token).await {
        Ok(user) => Ok(user.id().into()),
        Err(denied) => {
            assert!(!denied.reason().contains(token));
            Err(denied.reason().into())
        }
    }
}

#[tokio::test]
async fn each_key_verifies_its_own_tokens() {
    use Algorithm::*;
    let of_set = [
        jwk(&rsa(), RS256, "a"),
        jwk(&rsa(), PS512, "b"),
        jwk(&p256(), ES256, "c"),
        jwk(&p384(), ES384, "d"),
        jwk(&ed(), EdDSA, "e"),
    ];
    let keys = JwtKeys::parse(set(&of_set)).unwrap();
    assert_eq!(keys.ids(), ["a", "b", "c", "d", "e"]);
    let auth = JwtAuth::from_keys(keys);
    let right = [
        ("a", RS256, rsa()),
        ("b", PS512, rsa()),
        ("c", ES256, p256()),
        ("d", ES384, p384()),
        ("e", EdDSA, ed()),
    ];
    for (kid, algorithm, key) in &right {
        assert_eq!(
            check(&auth, &signed(&header(*algorithm, Some(kid)), key)).await,
            Ok("u1".into()),
            "{kid}"
        );
        // With the id of another key.
        for (other, other_algorithm, _) in right.iter().filter(|(other, ..)| other != kid) {
            let why = check(&auth, &signed(&header(*algorithm, Some(other)), key)).await.unwrap_err();
            let want = if algorithm == other_algorithm { "signature" } else { "another algorithm" };
            assert!(why.contains(want), "{kid} as {other}: {why}");
        }
    }
    for (kid, want) in [(None, "does not name its key"), (Some("f"), "unknown"), (Some(""), "unknown")] {
        let why = check(&auth, &signed(&header(ES256, kid), &p256())).await.unwrap_err();
        assert!(why.contains(want), "{why}");
    }
    // With the same key, but another algorithm of its family.
    for algorithm in [RS512, PS256] {
        let why = check(&auth, &signed(&header(algorithm, Some("a")), &rsa())).await.unwrap_err();
        assert!(why.contains("another algorithm"), "{algorithm:?}: {why}");
    }
}

#[tokio::test]
async fn a_key_without_an_algorithm_has_the_one_of_its_type() {
    let mut of_set = [
        jwk(&rsa(), Algorithm::RS256, "a"),
        jwk(&p384(), Algorithm::ES384, "b"),
        jwk(&ed(), Algorithm::EdDSA, "c"),
    ];
    for key in &mut of_set {
        key.as_object_mut().unwrap().remove("alg");
    }
    let auth = JwtAuth::from_keys(JwtKeys::parse(set(&of_set)).unwrap());
    for (kid, algorithm, key) in
        [("a", Algorithm::RS256, rsa()), ("b", Algorithm::ES384, p384()), ("c", Algorithm::EdDSA, ed())]
    {
        assert!(check(&auth, &signed(&header(algorithm, Some(kid)), &key)).await.is_ok(), "{kid}");
    }
    assert!(check(&auth, &signed(&header(Algorithm::PS256, Some("a")), &rsa())).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn keys_are_replaced_while_the_server_runs() {
    let keys = JwtKeys::parse(set(&[jwk(&p256(), Algorithm::ES256, "old")])).unwrap();
    let rooms = builder().auth(JwtAuth::from_keys(keys.clone())).build().unwrap();
    let (old, new) = (
        signed(&header(Algorithm::ES256, Some("old")), &p256()),
        signed(&header(Algorithm::EdDSA, Some("new")), &ed()),
    );
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let mut try_token = async |token: &str| {
        ann.send(json!({"event": "auth", "message": token})).await;
        ann.send(json!({"event": "message", "message": "next"})).await;
        let answer = ann.next().await;
        if answer["event"] == "noAuth" {
            ann.next().await;
        }
        answer["event"] == "message"
    };
    assert!(try_token(&old).await);
    assert!(!try_token(&new).await);
    keys.replace(set(&[jwk(&ed(), Algorithm::EdDSA, "new")])).unwrap();
    assert!(try_token(&new).await);
    assert!(!try_token(&old).await);
    // A set that is refused changes nothing.
    keys.replace("{}").unwrap_err();
    assert!(try_token(&new).await);
    assert_eq!(format!("{keys:?}"), r#"JwtKeys { ids: ["new"], .. }"#);
}

#[test]
fn invalid_sets_are_refused() {
    let good = jwk(&p256(), Algorithm::ES256, "a");
    let change = |key: &str, value: Value| {
        let mut jwk = good.clone();
        jwk[key] = value;
        jwk
    };
    let mut nameless = good.clone();
    nameless.as_object_mut().unwrap().remove("kid");
    let mut short = jwk(&rsa(), Algorithm::RS256, "short");
    let n = short["n"].as_str().unwrap()[..172].to_owned();
    short["n"] = n.into();
    let secret = json!({"kty": "oct", "kid": "s", "alg": "HS256", "k": base64url(SECRET)});
    let many: Vec<Value> = (0..129).map(|n| jwk(&ed(), Algorithm::EdDSA, &n.to_string())).collect();
    let ed_short = json!({"kty": "OKP", "crv": "Ed25519", "kid": "e", "x": "AAAA"});
    let off_curve = change("x", jwk(&p256(), Algorithm::ES256, "a")["y"].clone());
    for (json, why) in [
        ("".into(), "not JSON"),
        ("{\"keys\":}".into(), "line 1, column 9"),
        ("[]".into(), "\"keys\""),
        ("{\"keys\":{}}".into(), "\"keys\""),
        (set(&[]), "no key for signatures"),
        (set(&[json!(7), json!({}), change("crv", json!("P-521")), change("use", json!("enc"))]), "no key"),
        (set(&[json!({"kty": "OKP", "crv": "X25519", "kid": "x", "x": "AAAA"})]), "no key"),
        (set(&[good.clone(), secret]), "secret in key 2"),
        (set(&[change("d", json!("AAAA"))]), "secret in key 1"),
        (set(&[good.clone(), nameless]), "no \"kid\" for key 2"),
        (set(&[good.clone(), jwk(&ed(), Algorithm::EdDSA, "a")]), "twice"),
        (set(&[change("alg", json!("ES384"))]), "\"alg\" ES384"),
        (set(&[change("alg", json!("HS256"))]), "\"alg\" HS256"),
        (set(&[change("alg", json!("RS256"))]), "\"alg\" RS256"),
        (set(&[off_curve]), "does not work with ES256"),
        (set(&[change("x", json!("!"))]), "base64url"),
        (set(&[ed_short]), "32 bytes"),
        (set(&[short]), "2048"),
        (set(&many), "129 keys"),
        (format!("{}{}", set(std::slice::from_ref(&good)), " ".repeat(256 * 1024)), "bytes; at most"),
    ] {
        let error = JwtKeys::parse(&json).unwrap_err().to_string();
        assert!(error.contains(why), "{why}: {error}");
        assert!(!error.contains(&base64url(SECRET)), "{error}");
    }
    // Keys of other kinds are ignored.
    let mixed =
        set(&[json!({"kty": "new"}), change("use", json!("enc")), change("alg", json!("X")), good.clone()]);
    assert_eq!(JwtKeys::parse(mixed).unwrap().ids(), ["a"]);
}

#[tokio::test]
async fn a_token_does_not_choose_how_it_is_verified() {
    let by_secret = JwtAuth::hs256(SECRET).unwrap();
    let by_key = JwtAuth::from_pem(JwtAlgorithm::Rs256, RSA.1).unwrap();
    let by_set = JwtAuth::from_keys(JwtKeys::parse(set(&[jwk(&rsa(), Algorithm::RS256, "a")])).unwrap());
    let secret = EncodingKey::from_secret(SECRET.as_bytes());
    // Tokens of the right kind are accepted.
    assert!(check(&by_secret, &with_header(r#"{"alg":"HS256"}"#, &secret, Algorithm::HS256)).await.is_ok());
    for auth in [&by_key, &by_set] {
        assert!(
            check(auth, &with_header(r#"{"alg":"RS256","kid":"a"}"#, &rsa(), Algorithm::RS256)).await.is_ok()
        );
    }
    // An attacker knows the public key, and uses it in every form as the secret of an HMAC.
    let public = serde_json::from_str::<Value>(&set(&[jwk(&rsa(), Algorithm::RS256, "a")])).unwrap();
    let n = public["keys"][0]["n"].as_str().unwrap().to_owned();
    for forged in [RSA.1.as_bytes(), RSA.1.trim().as_bytes(), n.as_bytes(), b""] {
        for (alg, name) in
            [(Algorithm::HS256, "HS256"), (Algorithm::HS384, "HS384"), (Algorithm::HS512, "HS512")]
        {
            let head = format!(r#"{{"alg":"{name}","kid":"a"}}"#);
            let token = with_header(&head, &EncodingKey::from_secret(forged), alg);
            for auth in [&by_secret, &by_key, &by_set] {
                check(auth, &token).await.unwrap_err();
            }
        }
    }
    // Algorithms that do not exist, are misspelled, or are another key's. The signature is correct each time.
    let by_ed = JwtAuth::from_pem(JwtAlgorithm::EdDsa, include_str!("keys/ed25519.pub.pem")).unwrap();
    let by_set = JwtAuth::from_keys(JwtKeys::parse(set(&[jwk(&ed(), Algorithm::EdDSA, "a")])).unwrap());
    let with_alg = |alg: &str| with_header(&format!(r#"{{{alg}"kid":"a"}}"#), &ed(), Algorithm::EdDSA);
    for auth in [&by_ed, &by_set] {
        assert!(check(auth, &with_alg(r#""alg":"EdDSA","#)).await.is_ok());
    }
    for alg in [
        "",
        r#""alg":"none","#,
        r#""alg":"None","#,
        r#""alg":"NONE","#,
        r#""alg":"","#,
        r#""alg":null,"#,
        r#""alg":7,"#,
        r#""alg":["EdDSA"],"#,
        r#""alg":"eddsa","#,
        r#""alg":"EdDSA ","#,
        r#""Alg":"EdDSA","#,
        r#""alg":"HS256","#,
        r#""alg":"none","alg":"EdDSA","#,
        r#""alg":"EdDSA","alg":"none","#,
        r#""alg":"RS256","#,
        r#""alg":"ES256","#,
        r#""alg":"ES384","#,
        r#""alg":"PS256","#,
        r#""alg":"ES256K","#,
    ] {
        let token = with_alg(alg);
        let (message, _) = token.rsplit_once('.').unwrap();
        for token in [&token, &format!("{message}.")] {
            for auth in [&by_secret, &by_ed, &by_set] {
                check(auth, token).await.unwrap_err();
            }
        }
    }
    // Unusual key ids are unknown.
    for kid in
        [r#""A""#, r#""a ""#, r#""../a""#, r#""a\u0000""#, r#""' OR 1=1""#, "7", r#"["a"]"#, r#"{"a":1}"#]
    {
        let token = with_header(&format!(r#"{{"alg":"EdDSA","kid":{kid}}}"#), &ed(), Algorithm::EdDSA);
        check(&by_set, &token).await.unwrap_err();
    }
}

#[tokio::test]
async fn keys_in_a_tokens_header_are_ignored() {
    let auth = JwtAuth::from_keys(JwtKeys::parse(set(&[jwk(&p256(), Algorithm::ES256, "a")])).unwrap());
    // The attacker's key, on the same curve.
    let own = EncodingKey::from_ed_pem(include_bytes!("keys/ed25519.pem")).unwrap();
    let mut head = header(Algorithm::EdDSA, Some("a"));
    head.jwk = Some(Jwk::from_encoding_key(&own, Algorithm::EdDSA).unwrap());
    head.jku = Some("https://evil.example/jwks.json".into());
    head.x5u = Some("https://evil.example/cert.pem".into());
    head.x5c = Some(vec!["AAAA".into()]);
    assert!(check(&auth, &signed(&head, &own)).await.unwrap_err().contains("another algorithm"));
    head.kid = None;
    assert!(check(&auth, &signed(&head, &own)).await.unwrap_err().contains("does not name its key"));
    // A valid token with such a key is accepted.
    head.kid = Some("a".into());
    head.alg = Algorithm::ES256;
    assert_eq!(check(&auth, &signed(&head, &p256())).await, Ok("u1".into()));
    // Critical headers are not supported, so they must not be ignored.
    for crit in [vec![], vec!["exp".into()], vec!["b64".into()]] {
        head.crit = Some(crit);
        assert!(check(&auth, &signed(&head, &p256())).await.unwrap_err().contains("\"crit\""));
    }
}

#[test]
fn weak_keys_are_refused() {
    assert!(
        JwtAuth::hs256([0; 31]).unwrap_err().to_string().contains("31 bytes and needs at least 32 bytes")
    );
    assert!(
        JwtAuth::hs384([0; 47]).unwrap_err().to_string().contains("47 bytes and needs at least 48 bytes")
    );
    assert!(
        JwtAuth::hs512([0; 63]).unwrap_err().to_string().contains("63 bytes and needs at least 64 bytes")
    );
    JwtAuth::hs256([0; 32]).unwrap();
    JwtAuth::hs384([0; 48]).unwrap();
    JwtAuth::hs512([0; 64]).unwrap();
    let weak = include_str!("keys/rsa1024.pub.pem");
    let error = JwtAuth::from_pem(JwtAlgorithm::Rs256, weak).unwrap_err().to_string();
    assert!(error.contains("1024 bits and needs at least 2048"), "{error}");
    JwtAuth::from_pem(JwtAlgorithm::Ps256, RSA.1).unwrap();
}
