//! A user's time: it is warned of, prolonged, and over; and what his rights are is asked anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use http::request::Parts;
use jsonwebtoken::{EncodingKey, Header, encode, get_current_timestamp};
use serde_json::json;
use tokio::time::Instant;
use tower_chat_rooms::{
    Admission, Authenticate, ChatRooms, ChatRoomsBuilder, Denied, EnterRequest, Heartbeat, JwtAuth, OnExpiry,
    Recovery, RoomPolicy, Timeouts, User,
};

use crate::client::{Client, Log, Next, assert_empty};

const SECOND: Duration = Duration::from_secs(1);

/// Takes tokens such as `u1:60`, a user and his seconds, and `u1` for one without end.
async fn by_token(token: String) -> Result<User, Denied> {
    if token == "wrong" {
        return Err(Denied::new("no such token"));
    }
    Ok(user(&token))
}

fn user(token: &str) -> User {
    match token.split_once(':') {
        Some((id, seconds)) => User::new(id).expires_in(SECOND * seconds.parse().unwrap()),
        None => User::new(token),
    }
}

/// Heartbeats would have to be answered by everybody all the time.
fn guarded() -> ChatRoomsBuilder {
    ChatRooms::builder().auth(by_token).heartbeat(Heartbeat::every(SECOND * 86_400))
}

/// Enters the room "r" by v1.
async fn enter(rooms: &ChatRooms, token: &str) -> (Client, String) {
    let (mut client, welcome) = Client::connect_v1(rooms, Admission::user(user(token))).await;
    client.say(json!({"event": "enter", "message": "ann", "roomId": "r"})).await;
    assert_eq!(client.next().await["event"], "entered");
    assert_eq!(client.next().await["event"], "enter");
    (client, welcome["resume"].as_str().unwrap_or_default().into())
}

async fn auth(client: &mut Client, token: &str) {
    client.say(json!({"event": "auth", "message": token})).await;
}

/// The same, with the answer to a token that is accepted.
async fn renew(client: &mut Client, token: &str) {
    auth(client, token).await;
    assert_eq!(client.next().await["event"], "authenticated");
}

/// Waits until everything that the client sent has been handled.
async fn settle(client: &mut Client) {
    client.say(json!({"event": "message", "message": "settled"})).await;
    assert_eq!(client.next().await["message"], "settled");
}

#[tokio::test(start_paused = true)]
async fn a_warning_then_the_end() {
    let log = Log::default();
    let rooms = guarded().events(log.hook()).build().unwrap();
    let begin = Instant::now();
    let (mut ann, _) = enter(&rooms, "u1:60").await;
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    assert_eq!(ann.next().await["name"], "bob");
    let warning = ann.next().await;
    assert_eq!(warning["event"], "expiring");
    assert_eq!(warning.as_object().unwrap().len(), 2);
    assert!((29_900..=30_000).contains(&warning["in"].as_u64().unwrap()), "{warning}");
    assert_eq!(begin.elapsed().as_secs(), 30);
    assert_eq!(
        ann.next().await,
        json!({"event": "noAuth", "message": "the token has expired; get a new one", "roomId": "r"})
    );
    assert_eq!(ann.closed().await, 4504);
    assert_eq!(begin.elapsed().as_secs(), 60);
    // Whom it doesn't concern hears of an ordinary leave.
    assert_eq!(bob.next().await, json!({"event": "out", "name": "ann", "num": 1}));
    assert!(log.take().contains(&"- ann r 1 authentication expired".into()));
    bob.leave().await;
    ann.task.await.unwrap();
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn plain_clients_are_not_warned() {
    let rooms = guarded().build().unwrap();
    let mut ann = Client::connect_as(&rooms, Admission::user(user("u1:60")), 4096).await;
    ann.say(json!({"event": "enter", "message": "ann", "roomId": "r"})).await;
    let (before, code) = ann.closed_after().await;
    let events: Vec<_> = before.iter().map(|frame| frame["event"].as_str().unwrap()).collect();
    assert_eq!((events, code), (vec!["enter", "noAuth"], 4504));
}

#[tokio::test(start_paused = true)]
async fn without_a_warning_there_is_none() {
    let rooms = guarded().timeouts(Timeouts::default().token_warning(Duration::ZERO)).build().unwrap();
    let (mut ann, _) = enter(&rooms, "u1:60").await;
    assert_eq!(ann.next().await["event"], "noAuth");
}

#[tokio::test(start_paused = true)]
async fn a_newer_token_of_the_same_user_prolongs() {
    let rooms = guarded().build().unwrap();
    let begin = Instant::now();
    let (mut ann, _) = enter(&rooms, "u1:60").await;
    assert_eq!(ann.next().await["event"], "expiring");
    // Of another user, a bad one, and one whose time is over change nothing.
    for (token, why) in [("u2:600", "another user"), ("wrong", "no such token"), ("u1:0", "expired")] {
        auth(&mut ann, token).await;
        let answer = ann.next().await;
        assert_eq!(answer["event"], "noAuth");
        assert!(answer["message"].as_str().unwrap().contains(why), "{answer}");
    }
    renew(&mut ann, "u1:60").await;
    settle(&mut ann).await;
    assert_eq!(ann.next().await["event"], "expiring");
    assert_eq!(begin.elapsed().as_secs(), 60);
    // The last one counts, whatever it says.
    renew(&mut ann, "u1").await;
    settle(&mut ann).await;
    tokio::time::timeout(SECOND * 500, ann.next()).await.unwrap_err();
    renew(&mut ann, "u1:5").await;
    let begin = Instant::now();
    assert_eq!(ann.next().await["event"], "expiring");
    assert_eq!(begin.elapsed().as_secs(), 0);
    assert_eq!(ann.closed().await, 4504);
    assert_eq!(begin.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn who_is_bad_at_tokens_is_still_closed() {
    let rooms = guarded().build().unwrap();
    let (mut eve, _) = enter(&rooms, "u1:3600").await;
    for _ in 0..8 {
        auth(&mut eve, "u1:0").await;
    }
    assert_eq!(eve.closed().await, 1008);
}

#[tokio::test(start_paused = true)]
async fn a_connection_may_wait_for_a_newer_token() {
    let log = Log::default();
    let rooms = guarded().events(log.hook()).on_expiry(OnExpiry::WaitForAuth).build().unwrap();
    let (mut ann, _) = enter(&rooms, "u1:40").await;
    assert_eq!(ann.next().await["event"], "expiring");
    assert_eq!(ann.next().await["event"], "noAuth");
    assert_eq!(log.take(), ["+ ann r 1", "- ann r 0 authentication expired"]);
    assert!(rooms.rooms().is_empty());
    // Until then nothing is done for him, and for another user nothing at all.
    for frame in [
        json!({"event": "message", "message": "?"}),
        json!({"event": "enter", "message": "ann", "roomId": "r"}),
        json!({"event": "auth", "message": "u2"}),
    ] {
        ann.say(frame).await;
        assert_eq!(ann.next().await["event"], "noAuth");
    }
    auth(&mut ann, "u1:60").await;
    assert_eq!(ann.next().await, json!({"event": "authenticated", "expiresIn": 60_000}));
    ann.say(json!({"event": "enter", "message": "ann", "roomId": "r"})).await;
    assert_eq!(ann.next().await["event"], "entered");
    assert_eq!(ann.next().await["event"], "enter");
    // The second time nobody sends one.
    assert_eq!(ann.next().await["event"], "expiring");
    assert_eq!(ann.next().await["event"], "noAuth");
    let begin = Instant::now();
    assert_eq!(ann.closed().await, 4502);
    assert_eq!(begin.elapsed().as_secs(), 10);
    ann.task.await.unwrap();
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn a_flood_does_not_postpone_the_end() {
    let rooms = guarded().build().unwrap();
    let begin = Instant::now();
    let mut ann = Client::connect_as(&rooms, Admission::user(user("u1:3")), 1 << 20).await;
    ann.say(json!({"event": "enter", "message": "ann", "roomId": "r"})).await;
    // Each round is heard before the next is said, so the server is never at rest for long.
    let over = loop {
        for n in 0..50 {
            ann.say(json!({"event": "message", "message": n})).await;
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
    assert_eq!(ann.closed().await, 4504);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_stands_still_keeps_nobody_forever() {
    // Of the two clocks only tokio's goes on in paused time, as if the other were set back all along.
    let rooms = guarded().build().unwrap();
    let user = User::new("u1").expires_at(SystemTime::now() + SECOND * 600);
    let begin = Instant::now();
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::user(user)).await;
    ann.say(json!({"event": "enter", "message": "ann", "roomId": "r"})).await;
    for event in ["entered", "enter"] {
        assert_eq!(ann.next().await["event"], event);
    }
    let over = loop {
        // Longer than anybody else here has to wait.
        if let Ok(next) = tokio::time::timeout(SECOND * 500, ann.next_or_end()).await
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
async fn who_comes_with_an_old_token_goes_at_once() {
    let rooms = guarded().build().unwrap();
    for time in [SystemTime::UNIX_EPOCH, SystemTime::now()] {
        let user = User::new("u1").expires_at(time);
        let mut ann = Client::connect_as(&rooms, Admission::user(user), 4096).await;
        let (before, code) = ann.closed_after().await;
        assert_eq!((before.len(), before[0]["event"].as_str(), code), (1, Some("noAuth"), 4504));
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_that_is_far_away_does_no_harm() {
    let rooms = guarded().build().unwrap();
    let years = |n: u64| SECOND * 365 * 86_400 * u32::try_from(n).unwrap();
    for user in [
        User::new("u1").expires_in(years(3)),
        User::new("u1").expires_in(years(100)),
        User::new("u1").expires_in(Duration::MAX),
        User::new("u1").expires_at(SystemTime::now() + years(100)),
        User::new("u1").expires_at(SystemTime::UNIX_EPOCH + Duration::from_secs(i64::MAX as u64)),
    ] {
        let mut ann = Client::connect_as(&rooms, Admission::user(user), 4096).await;
        ann.say(json!({"event": "enter", "message": "ann", "roomId": "r"})).await;
        assert_eq!(ann.next().await["event"], "enter");
        tokio::time::timeout(SECOND * 500, ann.next()).await.unwrap_err();
        ann.leave().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_kept_seat_ends_with_its_users_time() {
    let log = Log::default();
    let rooms = guarded()
        .events(log.hook())
        .recovery(Recovery::default().resume_window(SECOND * 600))
        .build()
        .unwrap();
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    let (ann, _) = enter(&rooms, "u1:60").await;
    assert_eq!(bob.next().await["name"], "ann");
    ann.vanish().await;
    let begin = Instant::now();
    assert_eq!(bob.next().await["event"], "out");
    assert!((59..=60).contains(&begin.elapsed().as_secs()));
    assert_eq!(log.take().last().unwrap(), "- ann r 1 authentication expired");
    // Without an end, or with a later one, it is the grace that counts.
    for token in ["u1", "u1:3600"] {
        let (ann, _) = enter(&rooms, token).await;
        assert_eq!(bob.next().await["name"], "ann");
        ann.vanish().await;
        tokio::time::timeout(SECOND * 590, bob.next()).await.unwrap_err();
        assert_eq!(bob.next().await["event"], "out");
        assert_eq!(log.take().last().unwrap(), "- ann r 1 connection lost");
    }
}

#[tokio::test(start_paused = true)]
async fn coming_back_does_not_prolong() {
    let rooms = guarded().recovery(Recovery::default().resume_window(SECOND * 30)).build().unwrap();
    let end = Instant::now() + SECOND * 100;
    let until = |end: Instant| User::new("u1").expires_in(end - Instant::now());
    let (mut ann, welcome) = Client::connect_v1(&rooms, Admission::user(until(end))).await;
    ann.say(json!({"event": "enter", "message": "ann", "roomId": "r"})).await;
    for event in ["entered", "enter"] {
        assert_eq!(ann.next().await["event"], event);
    }
    tokio::time::timeout(SECOND * 50, ann.next()).await.unwrap_err();
    ann.vanish().await;
    // The same token, the same end.
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::user(until(end))).await;
    ann.say(json!({"event": "enter", "message": "ann", "roomId": "r", "resume": welcome["resume"]})).await;
    assert_eq!(ann.next().await["resumed"], true);
    assert_eq!(ann.next().await["event"], "expiring");
    assert_eq!(ann.closed().await, 4504);
    assert!(Instant::now() - end < SECOND);
    // An expired seat is nobody's.
    assert!(rooms.rooms().is_empty());
}

/// Lets in who is not on the list, and remembers whom it was asked about.
#[derive(Clone, Default)]
struct Bans {
    banned: Arc<AtomicBool>,
    log: Log,
}

impl RoomPolicy for Bans {
    async fn may_enter(&self, request: &EnterRequest<'_>) -> Result<(), Denied> {
        let user = request.user().map_or("nobody", User::id);
        self.log.push(format!("{user} {} {} {}", request.name(), request.room(), request.is_renewal()));
        if user == "hang" {
            std::future::pending::<()>().await;
        }
        if self.banned.load(Ordering::Relaxed) { Err(Denied::new("banned")) } else { Ok(()) }
    }
}

#[tokio::test(start_paused = true)]
async fn who_authenticates_anew_is_asked_about_again() {
    let (bans, log) = (Bans::default(), Log::default());
    let rooms = guarded().policy(bans.clone()).events(log.hook()).build().unwrap();
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    let (mut ann, _) = enter(&rooms, "u1").await;
    assert_eq!(bob.next().await["name"], "ann");
    renew(&mut ann, "u1").await;
    settle(&mut ann).await;
    assert_eq!(bob.next().await["message"], "settled");
    assert_eq!(bans.log.take(), ["nobody bob r false", "u1 ann r false", "u1 ann r true"]);
    // What he may do is asked with every token, for only the host knows what has changed.
    bans.banned.store(true, Ordering::Relaxed);
    ann.say(json!({"event": "message", "message": "still here"})).await;
    assert_eq!(ann.next().await["message"], "still here");
    renew(&mut ann, "u1").await;
    assert_eq!(
        ann.next().await,
        json!({"event": "error", "code": "denied", "message": "banned", "roomId": "r"})
    );
    assert_eq!(bob.next().await["message"], "still here");
    assert_eq!(bob.next().await, json!({"event": "out", "name": "ann", "num": 1}));
    assert_eq!(log.take().last().unwrap(), "- ann r 1 denied by the policy");
    // The connection stays, for longer than it had to enter.
    ann.say(json!({"event": "message", "message": "?"})).await;
    assert_eq!(ann.next().await["code"], "not_entered");
    tokio::time::timeout(SECOND * 30, ann.next()).await.unwrap_err();
    bans.banned.store(false, Ordering::Relaxed);
    ann.say(json!({"event": "enter", "message": "ann", "roomId": "r"})).await;
    assert_eq!(ann.next().await["num"], 2);
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_with_a_newer_token_is_asked_about_again() {
    let (bans, log) = (Bans::default(), Log::default());
    let rooms = guarded()
        .policy(bans.clone())
        .events(log.hook())
        .recovery(Recovery::default().resume_window(SECOND * 60))
        .build()
        .unwrap();
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    let (ann, secret) = enter(&rooms, "u1").await;
    assert_eq!(bob.next().await["name"], "ann");
    bans.log.take();
    ann.vanish().await;
    let back = async |secret: &str| {
        let (mut ann, welcome) = Client::connect_v1(&rooms, Admission::user(user("u1"))).await;
        ann.say(json!({"event": "enter", "message": "ann", "roomId": "r", "resume": secret})).await;
        let answer = ann.next().await;
        (ann, welcome["resume"].as_str().unwrap().to_owned(), answer)
    };
    let (ann, secret, answer) = back(&secret).await;
    assert_eq!(answer["resumed"], true);
    assert_eq!(bans.log.take(), ["u1 ann r true"]);
    ann.vanish().await;
    bans.banned.store(true, Ordering::Relaxed);
    let (mut ann, _, answer) = back(&secret).await;
    assert_eq!(answer, json!({"event": "error", "code": "denied", "message": "banned", "roomId": "r"}));
    assert_eq!(bob.next().await, json!({"event": "out", "name": "ann", "num": 1}));
    assert_eq!(log.take().last().unwrap(), "- ann r 1 denied by the policy");
    ann.say(json!({"event": "message", "message": "?"})).await;
    assert_eq!(ann.next().await["code"], "not_entered");
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_gives_no_answer_says_no() {
    let rooms = guarded().policy(Bans::default()).build().unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    auth(&mut ann, "hang").await;
    // Plain clients get the frame they know.
    let answer = ann.next().await;
    assert_eq!((answer["code"].as_str(), answer.as_object().unwrap().len()), (Some("internal"), 3));
    assert!(rooms.rooms().is_empty());
}

#[tokio::test]
async fn a_web_token_ends_when_it_says() {
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
    let rooms = ChatRooms::builder().auth(auth.clone()).build().unwrap();
    // In real time, for it is the wall's clock that is asked.
    let mut ann = Client::connect_as(&rooms, admission, 4096).await;
    assert_eq!(ann.closed().await, 4504);
    let over = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert!(over >= Duration::from_secs(exp + 1), "{over:?}");
    let user = auth.on_token(&token(u64::MAX)).await.unwrap();
    assert_eq!(user.time_left(), None);
    let user = auth.on_token(&token(exp + 600)).await.unwrap();
    assert!((590..=601).contains(&user.time_left().unwrap().as_secs()));
}

#[tokio::test(start_paused = true)]
async fn the_warning_is_the_servers_alone() {
    let rooms = guarded().build().unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    ann.say(json!({"event": "expiring", "in": 5})).await;
    assert_eq!(ann.next().await["code"], "reserved_event");
}
