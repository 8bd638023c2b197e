//! Tokens that expire: the warning, the renewal, and the end of the session.

use std::time::{Duration, SystemTime};

use http::request::Parts;
use jsonwebtoken::{EncodingKey, Header, encode, get_current_timestamp};
use serde_json::json;
use tokio::time::Instant;
use tower_chat_rooms::{Admission, Authenticate, JwtAuth, OnExpiry, Recovery, Timeouts, User};

use crate::support::{
    Client, EventLog, Next, assert_empty, builder, enter_frame, enter_with_token, removed_frame, user_of,
    with_expiring_tokens,
};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_client_is_warned_and_closed_when_its_token_expires() {
    let log = EventLog::default();
    let rooms = with_expiring_tokens().events(log.hook()).build().unwrap();
    let begin = Instant::now();
    let (mut ann, _) = enter_with_token(&rooms, "u1:60").await;
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    assert_eq!(ann.next().await["name"], "bob");
    let warning = ann.next().await;
    assert_eq!(warning["event"], "expiring");
    assert_eq!(warning.as_object().unwrap().len(), 2);
    assert!((29_900..=30_000).contains(&warning["in"].as_u64().unwrap()), "{warning}");
    assert_eq!(begin.elapsed().as_secs(), 30);
    assert_eq!(
        ann.next().await,
        json!({"event": "noAuth", "message": "the token has expired; get a new one"})
    );
    assert_eq!(ann.close_code().await, 4504);
    assert_eq!(begin.elapsed().as_secs(), 60);
    // Other members receive an ordinary out.
    assert_eq!(bob.next().await, json!({"event": "out", "name": "ann", "num": 1}));
    assert!(log.take().contains(&"- ann r 1 authentication expired".into()));
    bob.close().await;
    ann.task.await.unwrap();
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn plain_clients_are_not_warned() {
    let rooms = with_expiring_tokens().build().unwrap();
    let mut ann = Client::connect_as(&rooms, Admission::user(user_of("u1:60")), 4096).await;
    ann.send(json!({"event": "enter", "message": "ann", "roomId": "r"})).await;
    let (frames, code) = ann.frames_until_close().await;
    let events: Vec<_> = frames.iter().map(|frame| frame["event"].as_str().unwrap()).collect();
    assert_eq!((events, code), (vec!["enter", "noAuth"], 4504));
    assert_eq!(frames[1].as_object().unwrap().len(), 2, "{}", frames[1]);
}

#[tokio::test(start_paused = true)]
async fn the_warning_can_be_turned_off() {
    let rooms =
        with_expiring_tokens().timeouts(Timeouts::default().token_warning(Duration::ZERO)).build().unwrap();
    let (mut ann, _) = enter_with_token(&rooms, "u1:60").await;
    assert_eq!(ann.next().await["event"], "noAuth");
}

#[tokio::test(start_paused = true)]
async fn a_newer_token_of_the_same_user_extends_the_session() {
    let rooms = with_expiring_tokens().build().unwrap();
    let begin = Instant::now();
    let (mut ann, _) = enter_with_token(&rooms, "u1:60").await;
    assert_eq!(ann.next().await["event"], "expiring");
    // Tokens of another user, wrong ones and expired ones change nothing.
    for (token, why) in [("u2:600", "another user"), ("wrong", "no such token"), ("u1:0", "expired")] {
        ann.send_token(token).await;
        let answer = ann.next().await;
        assert_eq!(answer["event"], "noAuth");
        assert!(answer["message"].as_str().unwrap().contains(why), "{answer}");
    }
    ann.authenticate("u1:60").await;
    ann.round_trip().await;
    assert_eq!(ann.next().await["event"], "expiring");
    assert_eq!(begin.elapsed().as_secs(), 60);
    // The latest token counts, whether it expires later or earlier.
    ann.authenticate("u1").await;
    ann.round_trip().await;
    tokio::time::timeout(SECOND * 500, ann.next()).await.unwrap_err();
    ann.authenticate("u1:5").await;
    let begin = Instant::now();
    assert_eq!(ann.next().await["event"], "expiring");
    assert_eq!(begin.elapsed().as_secs(), 0);
    assert_eq!(ann.close_code().await, 4504);
    assert_eq!(begin.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn expired_tokens_count_as_failed_authentications() {
    let rooms = with_expiring_tokens().build().unwrap();
    let (mut eve, _) = enter_with_token(&rooms, "u1:3600").await;
    for _ in 0..8 {
        eve.send_token("u1:0").await;
    }
    assert_eq!(eve.close_code().await, 1008);
}

#[tokio::test(start_paused = true)]
async fn a_connection_can_wait_for_a_newer_token() {
    let log = EventLog::default();
    let rooms = with_expiring_tokens().events(log.hook()).on_expiry(OnExpiry::WaitForAuth).build().unwrap();
    let (mut ann, _) = enter_with_token(&rooms, "u1:40").await;
    let removed = removed_frame("r", "token_expired", "the token has expired");
    assert_eq!(ann.next().await["event"], "expiring");
    assert_eq!(ann.next().await, removed);
    assert_eq!(ann.next().await["event"], "noAuth");
    assert_eq!(log.take(), ["+ ann r 1", "- ann r 0 authentication expired"]);
    assert!(rooms.rooms().is_empty());
    // Until then nothing is done, and a token of another user is refused.
    for frame in [
        json!({"event": "message", "message": "?"}),
        json!({"event": "enter", "message": "ann", "roomId": "r"}),
        json!({"event": "auth", "message": "u2"}),
    ] {
        ann.send(frame).await;
        assert_eq!(ann.next().await["event"], "noAuth");
    }
    ann.send_token("u1:60").await;
    assert_eq!(ann.next().await, json!({"event": "authenticated", "expiresIn": 60_000}));
    ann.send(json!({"event": "enter", "message": "ann", "roomId": "r"})).await;
    assert_eq!(ann.next().await["event"], "entered");
    assert_eq!(ann.next().await["event"], "enter");
    // After the second expiry no token is sent.
    assert_eq!(ann.next().await["event"], "expiring");
    assert_eq!(ann.next().await, removed);
    assert_eq!(ann.next().await["event"], "noAuth");
    let begin = Instant::now();
    assert_eq!(ann.close_code().await, 4502);
    assert_eq!(begin.elapsed().as_secs(), 10);
    ann.task.await.unwrap();
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn a_flood_does_not_postpone_the_expiry() {
    let rooms = with_expiring_tokens().build().unwrap();
    let begin = Instant::now();
    let mut ann = Client::connect_as(&rooms, Admission::user(user_of("u1:3")), 1 << 20).await;
    ann.send(json!({"event": "enter", "message": "ann", "roomId": "r"})).await;
    // The server always has messages to handle.
    let over = loop {
        for n in 0..50 {
            ann.send(json!({"event": "message", "message": n})).await;
        }
        let mut last = ann.next().await;
        while last["event"] != "noAuth" && last["message"] != 49 {
            last = ann.next().await;
        }
        if last["event"] == "noAuth" {
            break last;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(over["message"].as_str().unwrap().contains("expired"));
    assert_eq!(begin.elapsed().as_secs(), 3);
    assert_eq!(ann.close_code().await, 4504);
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_even_if_the_system_clock_stands_still() {
    // In paused time only tokio's clock advances, as if the system's were set back all the time.
    let rooms = with_expiring_tokens().build().unwrap();
    let user = User::new("u1").expires_at(SystemTime::now() + SECOND * 600);
    let begin = Instant::now();
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::user(user)).await;
    ann.send(json!({"event": "enter", "message": "ann", "roomId": "r"})).await;
    for event in ["entered", "enter"] {
        assert_eq!(ann.next().await["event"], event);
    }
    let over = loop {
        // Less than what `next_or_close` waits at most.
        if let Ok(next) = tokio::time::timeout(SECOND * 500, ann.next_or_close()).await
            && !matches!(&next, Next::Frame(frame) if frame["event"] == "expiring")
        {
            break next;
        }
    };
    assert!(matches!(over, Next::Frame(frame) if frame["event"] == "noAuth"));
    let lived = begin.elapsed().as_secs();
    assert!((4_199..=4_200).contains(&lived), "{lived}");
}

#[tokio::test(start_paused = true)]
async fn an_expired_user_is_closed_at_once() {
    let rooms = with_expiring_tokens().build().unwrap();
    for time in [SystemTime::UNIX_EPOCH, SystemTime::now()] {
        let user = User::new("u1").expires_at(time);
        let mut ann = Client::connect_as(&rooms, Admission::user(user), 4096).await;
        let (frames, code) = ann.frames_until_close().await;
        assert_eq!((frames.len(), frames[0]["event"].as_str(), code), (1, Some("noAuth"), 4504));
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_can_expire_at_any_time_in_the_future() {
    let rooms = with_expiring_tokens().build().unwrap();
    let years = |n: u64| SECOND * 365 * 86_400 * u32::try_from(n).unwrap();
    for user in [
        User::new("u1").expires_in(years(3)),
        User::new("u1").expires_in(years(100)),
        User::new("u1").expires_in(Duration::MAX),
        User::new("u1").expires_at(SystemTime::now() + years(100)),
        User::new("u1").expires_at(SystemTime::UNIX_EPOCH + Duration::from_secs(i64::MAX as u64)),
    ] {
        let mut ann = Client::connect_as(&rooms, Admission::user(user), 4096).await;
        ann.send(json!({"event": "enter", "message": "ann", "roomId": "r"})).await;
        assert_eq!(ann.next().await["event"], "enter");
        tokio::time::timeout(SECOND * 500, ann.next()).await.unwrap_err();
        ann.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_kept_session_ends_when_its_user_expires() {
    let log = EventLog::default();
    let rooms = with_expiring_tokens()
        .events(log.hook())
        .recovery(Recovery::default().resume_window(SECOND * 600))
        .build()
        .unwrap();
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    let (ann, _) = enter_with_token(&rooms, "u1:60").await;
    assert_eq!(bob.next().await["name"], "ann");
    ann.disconnect().await;
    let begin = Instant::now();
    assert_eq!(bob.next().await["event"], "out");
    assert!((59..=60).contains(&begin.elapsed().as_secs()));
    assert_eq!(log.take().last().unwrap(), "- ann r 1 authentication expired");
    // If the user expires later or never, the resume window counts.
    for token in ["u1", "u1:3600"] {
        let (ann, _) = enter_with_token(&rooms, token).await;
        assert_eq!(bob.next().await["name"], "ann");
        ann.disconnect().await;
        tokio::time::timeout(SECOND * 590, bob.next()).await.unwrap_err();
        assert_eq!(bob.next().await["event"], "out");
        assert_eq!(log.take().last().unwrap(), "- ann r 1 connection lost");
    }
}

#[tokio::test(start_paused = true)]
async fn resuming_does_not_postpone_the_expiry() {
    let rooms =
        with_expiring_tokens().recovery(Recovery::default().resume_window(SECOND * 30)).build().unwrap();
    let end = Instant::now() + SECOND * 100;
    let until = |end: Instant| User::new("u1").expires_in(end - Instant::now());
    let (mut ann, welcome) = Client::connect_v1(&rooms, Admission::user(until(end))).await;
    ann.send(json!({"event": "enter", "message": "ann", "roomId": "r"})).await;
    for event in ["entered", "enter"] {
        assert_eq!(ann.next().await["event"], event);
    }
    tokio::time::timeout(SECOND * 50, ann.next()).await.unwrap_err();
    ann.disconnect().await;
    // The same token expires at the same time.
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::user(until(end))).await;
    let entered = ann.resume_and_enter([&welcome["resume"]], enter_frame("ann", "r")).await;
    assert_eq!(entered["resumed"], true);
    assert_eq!(ann.next().await["event"], "expiring");
    assert_eq!(ann.close_code().await, 4504);
    assert!(Instant::now() - end < SECOND);
    // An expired session is not kept.
    assert!(rooms.rooms().is_empty());
}

#[tokio::test]
async fn a_json_web_token_expires_at_its_exp_and_leeway() {
    const SECRET: &str = "thirty-two bytes of secret, or so";
    let auth = JwtAuth::hs256(SECRET).unwrap().with_leeway(SECOND);
    let token = |exp: u64| {
        let claims = json!({"sub": "u1", "exp": exp});
        encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
    };
    let exp = get_current_timestamp();
    let mut request: Parts = http::Request::new(()).into_parts().0;
    request.headers.insert("authorization", format!("Bearer {}", token(exp)).parse().unwrap());
    let admission = auth.on_upgrade(&request).await.unwrap();
    let rooms = builder().auth(auth.clone()).build().unwrap();
    // In real time, since the expiry is a time of the system clock.
    let mut ann = Client::connect_as(&rooms, admission, 4096).await;
    assert_eq!(ann.close_code().await, 4504);
    let over = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert!(over >= Duration::from_secs(exp + 1), "{over:?}");
    let user = auth.on_token(&token(u64::MAX)).await.unwrap();
    assert_eq!(user.time_left(), None);
    let user = auth.on_token(&token(exp + 600)).await.unwrap();
    assert!((590..=601).contains(&user.time_left().unwrap().as_secs()));
}

#[tokio::test(start_paused = true)]
async fn clients_cannot_send_the_warning() {
    let rooms = with_expiring_tokens().build().unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    ann.send(json!({"event": "expiring", "in": 5})).await;
    assert_eq!(ann.next().await["code"], "reserved_event");
}
