//! Tokens: refused ones, and those that expire.

use super::*;

pub(super) const ENTER: &str = r#"{"event":"enter","message":"ann","roomId":"r"}"#;
pub(super) const ASK: &str = "ask for a token";

pub(super) fn auth(token: &str) -> String {
    json!({"event": "auth", "message": token}).to_string()
}

pub(super) fn authenticated() -> Value {
    json!({"event": "authenticated", "expiresIn": 60_000})
}

pub(super) fn expiring(left: u64) -> Value {
    json!({"event": "expiring", "in": left})
}

impl Bench {
    /// The client is out of its room.
    pub(super) fn expire(&mut self) {
        self.say(merged(removed("token_expired"), json!({"message": "the token has expired"})));
        self.say(no_auth("the token has expired: send a new one"));
    }

    /// The application provides a token, for which it was asked.
    pub(super) fn provide(&mut self, token: &str) {
        self.machine.on_token(self.now, Ok(token.into()));
    }
}

/// The connection is open with the token `T1`, and the server has sent its welcome.
pub(super) fn welcomed(settings: Settings) -> Bench {
    let mut bench = Bench::new(settings);
    bench.machine.on_open(ms(0), Some("T1"));
    bench.say(welcome("s1"));
    bench.lines();
    bench
}

#[test]
fn a_refused_token_that_is_fixed_is_final() {
    let mut bench = welcomed(settings());
    bench.say(no_auth("expired"));
    assert_eq!(bench.lines(), ["close 1000"]);
    assert_eq!(bench.machine.ended(), Some(&ClientError::NoAuth("expired".into())));
    // So it is where there is none.
    let mut bench = Bench::new(settings());
    bench.open("s1");
    bench.say(no_auth("authenticate first"));
    assert_eq!(bench.machine.ended(), Some(&ClientError::NoAuth("authenticate first".into())));
}

#[test]
fn a_refused_token_is_replaced_on_the_same_connection_and_the_enter_repeated() {
    let mut bench = welcomed(renewable());
    bench.say(no_auth("expired"));
    bench.say(no_auth("authenticate first")); // The answer to the enter.
    assert_eq!(bench.lines(), [ASK]);
    bench.provide("T2");
    bench.say(authenticated());
    assert_eq!(bench.lines(), [auth("T2"), ENTER.into()]);
    bench.say(entered(1, json!({})));
    assert_eq!(bench.lines()[0], "online");
}

#[test]
fn three_refused_tokens_in_a_row_end_it() {
    let mut bench = welcomed(renewable());
    for n in 2..=3 {
        bench.say(no_auth("expired"));
        if n == 2 {
            bench.say(no_auth("authenticate first"));
        }
        assert_eq!(bench.lines(), [ASK]);
        bench.provide("T");
        bench.lines();
    }
    bench.say(no_auth("expired"));
    assert_eq!(bench.lines(), ["close 1000"]);
    assert_eq!(bench.machine.ended(), Some(&ClientError::NoAuth("expired".into())));
}

#[test]
fn a_refused_handshake_is_told_with_its_text() {
    let refused = || Failure::Http { status: 401, body: "bad token".into(), retry: None };
    let mut bench = Bench::new(settings());
    bench.machine.on_failed(ms(0), refused());
    assert_eq!(bench.machine.ended(), Some(&ClientError::NoAuth("HTTP 401: bad token".into())));
    let mut bench = Bench::online_with(renewable());
    bench.machine.on_closed(ms(0), 1006, "");
    bench.lines();
    for n in 0..3 {
        bench.wait();
        assert_eq!(bench.lines(), ["connect"]);
        bench.machine.on_failed(bench.now, refused());
        let told = ["reconnecting", "closed"][n / 2];
        assert_eq!(bench.lines(), [format!("{told}: not authenticated: HTTP 401: bad token")]);
    }
}

#[test]
fn a_token_that_expires_is_renewed_in_band_and_nobody_notices() {
    let mut bench = Bench::online_with(renewable());
    for n in 2..5 {
        bench.beats(30);
        bench.say(expiring(30_000));
        bench.pass(0);
        assert_eq!(bench.lines(), [ASK]);
        bench.provide(&format!("T{n}"));
        bench.say(authenticated());
        assert_eq!(bench.lines(), [auth(&format!("T{n}"))]);
    }
    assert_eq!(bench.state(), State::Online);
    // A fixed token can't be renewed.
    let mut bench = Bench::online();
    bench.say(expiring(1000));
    bench.beats(2);
    assert_eq!(bench.lines(), [""; 0]);
}

#[test]
fn tokens_that_live_no_longer_than_the_warning_are_not_fetched_in_a_loop() {
    let mut bench = Bench::online_with(renewable());
    let mut asked = 0;
    bench.say(expiring(20_000));
    for _ in 0..100 {
        bench.beats(1);
        if bench.lines().contains(&ASK.to_owned()) {
            asked += 1;
            bench.provide("T");
            bench.say(authenticated());
            bench.say(expiring(20_000));
            bench.lines();
        }
    }
    assert!((5..12).contains(&asked), "{asked}");
}

#[test]
fn a_renewal_that_is_refused_is_told_and_tried_again_while_the_old_token_counts() {
    let mut bench = Bench::online_with(renewable());
    bench.beats(30);
    bench.say(expiring(30_000));
    for _ in 0..3 {
        bench.beats(6);
        assert_eq!(bench.lines(), [ASK]);
        bench.provide("T");
        bench.lines();
        bench.say(no_auth("not yet valid"));
        assert_eq!(bench.lines(), ["error: not authenticated: not yet valid"]);
    }
    bench.beats(10);
    assert_eq!(
        (bench.lines().len(), bench.state()),
        (0, State::Online),
        "the server closes clients that fail too often"
    );
}

#[test]
fn refusals_count_in_a_row() {
    let mut bench = Bench::online_with(renewable());
    for _ in 0..5 {
        bench.beats(30);
        bench.say(expiring(30_000));
        bench.pass(0);
        bench.provide("bad");
        bench.say(no_auth("no such token"));
        bench.beats(6);
        bench.provide("good");
        bench.say(authenticated());
        let lines = bench.lines();
        assert_eq!(lines.iter().filter(|line| *line == ASK).count(), 2, "{lines:?}");
        assert_eq!(bench.state(), State::Online);
    }
}

#[test]
fn a_token_function_that_fails_on_renewal_is_told_and_called_again() {
    let mut bench = Bench::online_with(renewable());
    bench.beats(30);
    bench.say(expiring(30_000));
    bench.pass(0);
    bench.machine.on_token(bench.now, Err("no network".into()));
    assert_eq!(bench.lines(), [ASK, "error: no token: no network"]);
    bench.beats(6);
    assert_eq!(bench.lines(), [ASK]);
}

#[test]
fn out_of_the_room_for_an_expired_token_it_authenticates_and_enters_again() {
    let mut bench = Bench::online_with(renewable());
    bench.beats(2);
    bench.send(1);
    bench.lines();
    bench.expire();
    assert_eq!(bench.lines(), ["outside: not authenticated: the token has expired", ASK]);
    bench.provide("T2");
    bench.say(no_auth("authenticate first")); // The answer to the message.
    assert_eq!(bench.lines(), [auth("T2")]);
    bench.say(authenticated());
    assert_eq!(
        bench.lines(),
        [r#"{"event":"enter","message":"ann","roomId":"r","since":{"epoch":"E","seq":1}}"#]
    );
    bench.say(entered(3, json!({"recovered": true, "replayed": 2})));
    bench.say(json!({"event": "out", "name": "ann", "num": 0, "member": "1", "seq": 2}));
    bench.say(said(3, "meanwhile"));
    let lines = bench.lines();
    assert_eq!(lines[0], "online");
    assert_eq!(numbers(&lines), [1], "it was not in the replay");
}

#[test]
fn a_token_may_expire_while_the_next_one_is_on_its_way() {
    let mut bench = Bench::online_with(renewable());
    bench.pass(1500);
    bench.send(1);
    bench.lines();
    bench.say(expiring(10));
    bench.pass(100);
    bench.provide("T2");
    assert_eq!(bench.lines(), [ASK.into(), auth("T2")]);
    bench.expire(); // Said before the message and the new token arrived.
    assert_eq!(bench.lines(), ["outside: not authenticated: the token has expired"]);
    bench.say(no_auth("authenticate first")); // The answer to the message.
    assert_eq!(bench.lines(), [""; 0]);
    bench.say(authenticated());
    assert!(bench.lines()[0].contains(r#""event":"enter""#));
    bench.say(entered(2, json!({"recovered": true, "replayed": 1})));
    assert_eq!(bench.lines(), ["online", "entered as 1, resumed false, recovered true"]);
}

/// There is no order between frames of a room and those of none.
#[test]
fn an_expiry_that_looks_like_a_refused_renewal_is_made_up_for() {
    let mut bench = Bench::online_with(renewable());
    bench.pass(1500);
    bench.say(expiring(10));
    bench.pass(100);
    bench.provide("T2");
    bench.lines();
    bench.say(no_auth("the token has expired"));
    bench.send(1); // The server is not going to take it.
    bench.say(removed("token_expired"));
    bench.say(authenticated());
    let lines = bench.lines();
    assert!(lines[0].starts_with("error: ") && lines[2].starts_with("outside: "), "{lines:?}");
    assert!(lines.last().unwrap().contains(r#""event":"enter""#), "{lines:?}");
    bench.say(entered(2, json!({"recovered": true, "replayed": 1})));
    assert_eq!(bench.lines(), ["online", "entered as 1, resumed false, recovered true"]);
    bench.say(json!({"event": "out", "name": "ann", "num": 0, "member": "1", "seq": 2}));
    assert_eq!(numbers(&bench.lines()), [1]);
}

#[test]
fn without_a_token_function_it_stays_outside_until_the_server_closes() {
    let mut bench = Bench::online();
    bench.say(no_auth("the token has expired"));
    bench.machine.on_closed(ms(0), 4502, "the client did not authenticate in time");
    assert_eq!(
        bench.lines(),
        [
            "outside: not authenticated: the token has expired",
            "closed: not authenticated: the token has expired"
        ]
    );
}

#[test]
fn closed_for_its_token_it_comes_back_at_once_with_another() {
    for code in [4502, 4504, 4505] {
        let mut bench = Bench::online_with(renewable());
        bench.machine.on_closed(ms(0), code, "why");
        assert_eq!(bench.lines(), [format!("reconnecting: not authenticated: why ({code})")]);
        bench.pass(0);
        assert_eq!(bench.lines(), ["connect"]);
    }
}

#[test]
fn closed_for_its_token_again_and_again_it_gives_up_and_says_why() {
    for says in [Some("bad signature"), None] {
        let mut bench = Bench::new(renewable());
        for n in 1..=3 {
            bench.machine.on_open(bench.now, Some("T"));
            if let Some(why) = says {
                bench.say(no_auth(why));
            }
            bench.machine.on_closed(bench.now, 4505, "not authenticated");
            if n < 3 {
                bench.wait();
                assert_eq!(bench.lines().last().unwrap(), "connect");
            }
        }
        let why = says.unwrap_or("not authenticated (4505)");
        assert_eq!(bench.machine.ended(), Some(&ClientError::NoAuth(why.into())));
    }
}

#[test]
fn a_token_that_expires_as_soon_as_it_is_accepted_does_not_hammer_the_server() {
    let mut bench = Bench { resume_window: 0, ..Bench::new(renewable()) }.entered();
    let mut waits = Vec::new();
    for _ in 0..5 {
        bench.say(no_auth("the token has expired"));
        bench.machine.on_closed(bench.now, 4504, "the token has expired");
        waits.push(bench.retry_in());
        bench.wait();
        bench.lines();
        bench.open("s");
        bench.say(resumed(1, 0));
    }
    assert_eq!(waits, [0, 1000, 2000, 4000, 8000]);
}

#[test]
fn tokens_that_end_as_soon_as_they_are_used_are_asked_for_once_a_second() {
    let mut bench = Bench::online_with(renewable());
    for _ in 0..5 {
        bench.expire();
        bench.pass(999);
        assert_eq!(bench.lines(), ["outside: not authenticated: the token has expired"]);
        bench.pass(1);
        assert_eq!(bench.lines(), [ASK]);
        bench.provide("T");
        bench.say(authenticated());
        bench.say(resumed(1, 0));
        bench.lines();
    }
}

#[test]
fn a_token_that_takes_too_long_is_not_waited_for() {
    let mut bench = Bench::online_with(renewable());
    bench.beats(2);
    bench.say(no_auth("the token has expired"));
    bench.lines();
    bench.beats(10);
    let lost = "reconnecting: connection lost: authenticating timed out (4000)";
    assert_eq!(bench.lines(), ["close 4000", lost]);
    bench.provide("T");
    assert_eq!(bench.lines(), [""; 0]);
}

#[test]
fn the_application_may_send_another_token_at_any_time() {
    let mut bench = welcomed(renewable());
    bench.machine.authenticate(bench.now);
    assert!(bench.lines().is_empty(), "a token was sent a moment ago");
    bench.say(authenticated());
    bench.say(entered(0, json!({})));
    bench.lines();
    bench.machine.authenticate(bench.now);
    bench.machine.authenticate(bench.now);
    assert_eq!(bench.lines(), [ASK]);
    bench.provide("T2");
    assert_eq!(bench.lines(), [auth("T2")]);
    bench.say(no_auth("of another user"));
    assert!(bench.lines().contains(&"error: not authenticated: of another user".into()));
}
