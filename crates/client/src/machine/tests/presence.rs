//! What a client knows about the members of a room, and its own state.

use super::*;

/// The first part of the roster of a room in full mode, for an `entered`. Each member is `"NAME"` or `"NAME USER"`; its
/// id is its name.
fn roster(members: &[&str]) -> Value {
    json!({"mode": "full", "num": members.len() + 1, "users": 1, "members": members_of(members)})
}

fn members_of(members: &[&str]) -> Value {
    let member = |text: &&str| match text.split_once(' ') {
        Some((name, user)) => json!({"member": name, "name": name, "user": user}),
        None => json!({"member": text, "name": text}),
    };
    members.iter().map(member).collect()
}

/// A page that was requested.
fn page(num: u64, members: &[&str], next: Option<&str>) -> Value {
    let page = json!({"event": "members", "roomId": "r", "seq": 1, "mode": "full", "num": num, "users": 0,
                      "members": members_of(members)});
    merged(page, next.map_or(json!({}), |next| json!({"next": next})))
}

fn enters(seq: u64, name: &str, num: u64) -> Value {
    json!({"event": "enter", "message": name, "name": name, "member": name, "num": num, "seq": seq})
}

fn goes(seq: u64, name: &str, num: u64) -> Value {
    json!({"event": "out", "name": name, "member": name, "num": num, "seq": seq})
}

/// This client's own enter.
fn own_enter(seq: u64, num: u64) -> Value {
    merged(enters(seq, "ann", num), json!({"member": "1"}))
}

fn presence(mode: &str, num: u64) -> Value {
    json!({"event": "presence", "roomId": "r", "mode": mode, "num": num, "users": 1})
}

fn ask(after: Option<&str>) -> String {
    let frame = json!({"event": "members", "roomId": "r"});
    merged(frame, after.map_or(json!({}), |after| json!({"after": after}))).to_string()
}

fn state_frame(state: impl Into<Value>) -> String {
    json!({"event": "state", "state": state.into(), "roomId": "r"}).to_string()
}

/// Another member has changed its state.
fn state_of(member: &str, state: Value) -> Value {
    json!({"event": "state", "state": state, "name": member, "num": 3, "member": member, "roomId": "r"})
}

impl Bench {
    /// In a room with these members, in full mode, at position 2.
    fn among(members: &[&str]) -> Bench {
        let mut bench = Bench::new(settings());
        bench.open("s1");
        bench.say(entered(1, roster(members)));
        bench.say(own_enter(2, members.len() as u64 + 1));
        bench.lines();
        bench.shows_presence = true;
        bench
    }

    /// The server sends a frame. Returns what the application learns about the members, and what the client sends.
    fn told(&mut self, frame: Value) -> Vec<String> {
        self.say(frame);
        self.presences()
    }

    fn presences(&mut self) -> Vec<String> {
        self.lines().into_iter().filter(|line| line.starts_with("0: ") || line.starts_with('{')).collect()
    }

    fn set_state(&mut self, state: impl Into<Value>) -> Vec<String> {
        self.machine.set_state(self.now, R, state.into());
        self.presences()
    }

    fn presence(&self) -> String {
        describe_presence(&self.machine.room_status(R).unwrap().presence)
    }
}

#[test]
fn the_roster_follows_enters_and_outs() {
    let mut bench = Bench::among(&["bob u", "cem u"]);
    assert_eq!(bench.presence(), "full 3/1: bob cem ann*");
    assert_eq!(bench.told(enters(3, "dan", 4)), ["0: full 4/1: bob cem ann* dan"]);
    assert_eq!(bench.told(goes(4, "bob", 3)), ["0: full 3/1: cem ann* dan"]);
    assert_eq!(bench.told(goes(5, "cem", 2)), ["0: full 2/0: ann* dan"]);
    assert!(bench.told(merged(said(6, "hi"), json!({"member": "nobody"}))).is_empty(), "nothing has changed");
}

#[test]
fn replayed_frames_do_not_change_the_roster() {
    let mut bench = Bench::among(&["bob"]);
    bench.shows_presence = false;
    let answer = merged(roster(&["bob", "1", "dan"]), json!({"num": 3}));
    bench.come_back("s2", merged(resumed(5, 3), answer));
    bench.shows_presence = true;
    for frame in [enters(3, "cem", 3), goes(4, "cem", 2), enters(5, "dan", 3)] {
        assert!(bench.told(frame).is_empty());
    }
    assert_eq!(bench.presence(), "full 3/0: bob 1* dan");
    assert_eq!(bench.told(goes(6, "dan", 2)), ["0: full 2/0: bob 1*"]);
}

#[test]
fn all_pages_are_requested_one_after_the_other() {
    let mut bench = Bench::new(settings());
    bench.open("s1");
    bench.shows_presence = true;
    let first = merged(roster(&["bob"]), json!({"num": 4, "next": "c1"}));
    assert_eq!(bench.told(entered(1, first)), ["0: full 4/1: bob ...", &ask(Some("c1"))]);
    assert_eq!(bench.told(own_enter(2, 4)), ["0: full 4/1: bob ann* ..."]);
    let lines = bench.told(page(4, &["cem"], Some("c2")));
    assert_eq!(lines, ["0: full 4/0: bob cem ann* ...", &ask(Some("c2"))]);
    assert_eq!(bench.told(page(4, &["dan u", "1"], None)), ["0: full 4/1: bob cem dan 1*"]);
    assert_eq!(bench.told(page(1, &["nobody"], None)), [""; 0], "it was not requested");
}

#[test]
fn no_more_members_are_requested_than_the_application_wants() {
    for (max, asks) in [(0, false), (1, false), (2, true)] {
        let settings = RoomSettings { roster: max, ..room("r") };
        let mut bench = Bench::with(|random| Machine::with_room(super::settings(), random, R, settings));
        bench.open("s1");
        bench.say(entered(1, merged(roster(&["bob"]), json!({"num": 9, "next": "c1"}))));
        bench.say(own_enter(2, 9));
        let asked: Vec<String> = bench.presences();
        assert_eq!(asked, if asks { vec![ask(Some("c1"))] } else { vec![] }, "{max}");
        assert_eq!(bench.presence(), "full 9/1: bob ann* ...");
    }
}

#[test]
fn a_client_that_requests_no_members_does_not_know_them_after_a_gap() {
    let settings = RoomSettings { roster: 0, ..room("r") };
    let mut bench = Bench::with(|random| Machine::with_room(super::settings(), random, R, settings));
    bench.open("s1");
    bench.say(entered(1, roster(&["bob"])));
    bench.say(own_enter(2, 2));
    assert_eq!(bench.presence(), "full 2/0: bob ann*");
    bench.shows_presence = true;
    bench.lines();
    assert_eq!(bench.told(json!({"event": "lagged", "missed": 1})), ["0: full 2/0"]);
    assert_eq!(bench.told(enters(4, "cem", 3)), ["0: full 3/0"]);
    assert_eq!(bench.told(goes(5, "cem", 0)), ["0: full 0/0"]);
}

#[test]
fn after_a_gap_the_roster_is_requested_again() {
    let mut bench = Bench::among(&["bob"]);
    let lines = bench.told(json!({"event": "lagged", "missed": 3}));
    assert_eq!(lines, ["0: full 2/0: bob ann* ...", &ask(None)]);
    assert_eq!(bench.told(enters(6, "cem", 3)), ["0: full 3/0: bob ann* cem ..."]);
    let lines = bench.told(json!({"event": "lagged", "missed": 1}));
    assert!(lines.is_empty(), "one request at a time: {lines:?}");
    assert_eq!(bench.told(page(3, &["1", "cem", "dan"], None)), [ask(None)], "it may be older than the gap");
    assert_eq!(bench.told(page(2, &["1", "dan"], None)), ["0: full 2/0: 1* dan"]);
    bench.say_text(r#"{"event":"enter","name":"eve","member":"eve","roomId":"r","seq":8,"info":1e999}"#);
    assert_eq!(bench.presences(), ["0: full 2/0: 1* dan ...", &ask(None)], "this client can't read it");
}

#[test]
fn out_of_the_room_the_last_roster_is_not_complete() {
    let mut bench = Bench::among(&["bob"]);
    bench.machine.on_closed(bench.now, 1006, "");
    assert_eq!(bench.presences(), ["0: full 2/0: bob ann* ..."]);
    bench.reconnect("s2");
    assert_eq!(bench.told(merged(resumed(2, 0), roster(&["bob", "1"])))[0], "0: full 3/0: bob 1*");
    bench.say(removed("denied"));
    assert_eq!(bench.presences(), ["0: full 3/0: bob 1* ..."]);
}

#[test]
fn only_full_mode_has_a_roster() {
    let mut bench = Bench::among(&["bob"]);
    assert_eq!(bench.told(presence("count", 1000)), ["0: count 1000/1"]);
    assert_eq!(bench.told(presence("count", 990)), ["0: count 990/1"]);
    assert_eq!(bench.told(merged(said(3, "hi"), json!({"num": 991}))), ["0: count 991/1"]);
    assert!(bench.told(json!({"event": "lagged", "missed": 3})).is_empty());
    // All members of the room request it. Randomness is 1.
    assert_eq!(bench.told(presence("full", 2)), ["0: full 2/1"]);
    bench.pass(990);
    assert!(bench.presences().is_empty());
    bench.pass(10);
    assert_eq!(bench.presences(), [ask(None)]);
    assert_eq!(bench.told(page(2, &["bob", "1"], None)), ["0: full 2/0: bob 1*"]);
    // The client has missed changes.
    assert_eq!(bench.told(presence("full", 2)), ["0: full 2/1: bob 1* ...", &ask(None)]);
    let other_mode =
        json!({"event": "members", "roomId": "r", "seq": 2, "mode": "count", "num": 7, "users": 3});
    assert_eq!(bench.told(other_mode), ["0: count 7/3"]);
}

#[test]
fn a_mode_that_changes_back_at_once_leaves_nothing_to_request() {
    let mut bench = Bench::among(&["bob"]);
    bench.told(presence("count", 3));
    bench.told(presence("full", 2));
    bench.told(presence("quiet", 3));
    bench.pass(1900);
    assert!(bench.presences().iter().all(|line| !line.contains("members")));
}

#[test]
fn a_request_that_is_refused_for_some_time_is_sent_again() {
    let mut bench = Bench::among(&["bob"]);
    bench.told(json!({"event": "lagged", "missed": 1}));
    assert!(bench.told(error("rate_limited", json!({"roomId": "r", "retryAfter": 300}))).is_empty());
    bench.pass(299);
    assert!(bench.presences().is_empty());
    bench.pass(1);
    assert_eq!(bench.presences(), [ask(None)]);
    bench.say(error("bad_shape", json!({"roomId": "r"})));
    assert_eq!(bench.lines(), ["error: refused: so it is (bad_shape)"]);
    assert_eq!(bench.presence(), "full 2/0: bob ann* ...");
}

#[test]
fn an_error_is_about_the_older_of_a_request_and_an_enter() {
    let mut bench = Bench::among(&["bob"]);
    bench.fill();
    bench.say(said(3, "hi"));
    bench.say(json!({"event": "lagged", "missed": 1}));
    bench.free();
    let is_enter = |line: &String| line.contains(r#""event":"enter""#);
    let lines = bench.presences();
    assert!(lines.contains(&ask(None)) && is_enter(lines.last().unwrap()), "{lines:?}");
    let refused = error("rate_limited", json!({"roomId": "r", "retryAfter": 300}));
    bench.say(refused.clone());
    assert!(bench.enter_in().is_none(), "the request was refused");
    bench.say(refused);
    assert_eq!(bench.enter_in(), Some(300));
}

#[test]
fn a_request_that_the_server_got_outside_of_the_room_is_sent_again() {
    let mut bench = Bench::among(&["bob"]);
    assert_eq!(bench.told(json!({"event": "lagged", "missed": 1})).last(), Some(&ask(None)));
    bench.say(error("not_entered", json!({"roomId": "r"})));
    assert!(bench.lines().is_empty());
    bench.pass(1000);
    assert_eq!(bench.presences(), [ask(None)], "the client is still in the room");
    bench.say(merged(removed("internal"), json!({})));
    bench.say(error("not_entered", json!({"roomId": "r"})));
    bench.lines();
    bench.wait();
    bench.say(entered(4, merged(roster(&["cem"]), json!({"member": "1"}))));
    bench.lines();
    assert_eq!(bench.presence(), "full 2/0: cem");
}

#[test]
fn a_member_changes() {
    let mut bench = Bench::among(&["bob u", "cem"]);
    assert_eq!(bench.told(state_of("bob", json!(7))), ["0: full 3/1: bob7 cem ann*"]);
    assert_eq!(bench.told(state_of("bob", json!(null))), ["0: full 3/1: bob cem ann*"]);
    assert!(bench.told(state_of("nobody", json!(7))).is_empty());
    let mut change = state_of("cem", json!(null));
    change.as_object_mut().unwrap().remove("state");
    let host = merged(change.clone(), json!({"info": {"role": "host"}, "user": "v"}));
    assert_eq!(bench.told(host), ["0: full 3/2: bob cem ann*"]);
    let known = bench.machine.room_status(R).unwrap().presence;
    assert_eq!(known.member("cem").unwrap().info(), Some(&json!({"role": "host"})));
    let own = merged(change, json!({"member": "1", "info": "vip"}));
    assert_eq!(bench.told(own), ["0: full 3/2: bob cem ann*"]);
    assert_eq!(bench.machine.room_status(R).unwrap().presence.own().unwrap().info(), Some(&json!("vip")));
}

#[test]
fn states_are_sent_at_most_every_100_ms_and_repeated_by_a_new_member() {
    let mut bench = Bench::among(&["bob"]);
    assert_eq!(bench.set_state(1), ["0: full 2/0: bob ann*1", &*state_frame(1)]);
    assert!((2..6).all(|n| bench.set_state(n).is_empty()));
    bench.pass(99);
    assert!(bench.presences().is_empty());
    bench.pass(1);
    assert_eq!(bench.presences(), ["0: full 2/0: bob ann*5", &*state_frame(5)]);
    // A server that has restarted.
    bench.machine.on_closed(bench.now, 1006, "");
    bench.set_state(6);
    bench.lines();
    let lines = bench.reconnect_unanswered("s2");
    let enter: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    assert_eq!((&enter["event"], &enter["state"]), (&json!("enter"), &json!(6)));
    bench.say(json!({"event": "resumed", "rooms": []}));
    bench.say(entered(0, merged(roster(&[]), json!({"member": "9", "epoch": "F", "num": 1}))));
    let own = json!({"member": "9", "state": 6});
    assert_eq!(bench.told(merged(own_enter(1, 1), own)).last().unwrap(), "0: full 1/0: ann*6");
    bench.pass(500);
    assert!(bench.presences().is_empty(), "the server has it");
}

#[test]
fn after_a_resumption_a_state_is_sent_only_if_the_server_may_not_have_it() {
    for (in_roster, is_sent) in [(json!(1), false), (json!(0), true), (json!(null), true)] {
        let mut bench = Bench::among(&["bob"]);
        assert_eq!(bench.set_state(1).len(), 2);
        bench.shows_presence = false;
        let members =
            json!([{"member": "b", "name": "bob"}, {"member": "1", "name": "ann", "state": in_roster}]);
        let lines =
            bench.come_back("s2", merged(resumed(2, 0), merged(roster(&[]), json!({"members": members}))));
        assert_eq!(lines.contains(&state_frame(1)), is_sent, "{in_roster}: {lines:?}");
        assert_eq!(bench.presence(), "full 1/0: bob ann*1");
    }
}

#[test]
fn a_state_that_the_server_refuses_is_reported() {
    let mut bench = Bench::among(&["bob"]);
    bench.set_state(1);
    bench.pass(100);
    bench.set_state(2);
    bench.shows_presence = false;
    bench.say(error("denied", json!({"roomId": "r"})));
    assert_eq!(bench.lines(), ["error: refused: so it is (denied)", &*ask(None)]);
    assert_eq!(bench.presence(), "full 2/0: bob ann*1 ...");
    let members = json!([{"member": "1", "name": "ann", "state": 2}]);
    bench.say(merged(page(2, &[], None), json!({"members": members})));
    assert_eq!(bench.presence(), "full 2/0: ann*2", "the first one was refused");
    bench.pass(900);
    assert!(bench.presences().is_empty());
    bench.set_state(3);
    bench.say(error("rate_limited", json!({"roomId": "r", "retryAfter": 300})));
    bench.pass(300);
    assert_eq!(bench.presences(), [state_frame(3)]);
}

#[test]
fn a_hidden_or_read_only_member_knows_it() {
    let mut bench = Bench::new(settings());
    bench.open("s1");
    bench.say(entered(1, merged(roster(&["bob"]), json!({"num": 1, "hidden": true, "readOnly": true}))));
    bench.lines();
    let status = bench.machine.room_status(R).unwrap();
    assert!(status.is_hidden && status.is_read_only);
    assert_eq!(bench.presence(), "full 1/0: bob");
    bench.shows_presence = true;
    assert_eq!(bench.set_state(1), [state_frame(1)], "the server accepts it");
    bench.send(1);
    bench.lines();
    bench.say(error("read_only", json!({"cid": "c1", "roomId": "r"})));
    assert_eq!(bench.lines(), ["1: refused: so it is (read_only)"]);
    bench.come_back("s2", merged(resumed(1, 0), json!({"mode": "count"})));
    let status = bench.machine.room_status(R).unwrap();
    assert!(!status.is_hidden && !status.is_read_only);
}

#[test]
fn a_member_learns_that_it_may_write_now() {
    let mut bench = Bench::new(settings());
    bench.open("s1");
    bench.say(entered(1, merged(roster(&["bob"]), json!({"num": 1, "readOnly": true}))));
    bench.lines();
    bench.say(json!({"event": "state", "readOnly": false, "member": "1", "roomId": "r"}));
    assert_eq!(bench.lines(), ["read-only: false"]);
    assert!(!bench.machine.room_status(R).unwrap().is_read_only);
}

#[test]
fn presence_is_told_after_the_event_that_has_changed_it() {
    let mut bench = Bench::among(&[]);
    bench.say(enters(3, "bob", 2));
    assert_eq!(bench.lines(), [r#"enter "bob" 3"#, "0: full 2/0: ann* bob"]);
}
