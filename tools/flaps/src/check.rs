//! Compares what clients have sent and received, and the server's members with the clients.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use flaps::{Directs, Inbox};
use tokio::time::{Instant, sleep};

use crate::ROOMS;
use crate::presence::Roster;
use crate::server::Server;
use crate::stay::{Received, Stay};
use crate::wanderer::{Results, Wanderer};

/// How long the members, sessions and frames may take to become as expected: longer than a heartbeat and the resume
/// window together.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);

/// What one round has shown.
#[derive(Default)]
pub(crate) struct Report {
    messages: usize,
    frames: usize,
    entered: u64,
    resumed: u64,
    directs: usize,
    mode_changes: u64,
    pub(crate) faults: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} messages, {} frames and {} direct messages received, {} changes of presence modes; since the \
             beginning {} enters, {} sessions resumed; {} faults",
            self.messages,
            self.frames,
            self.directs,
            self.mode_changes,
            self.entered,
            self.resumed,
            self.faults.len()
        )
    }
}

/// Checks one round. The networks of all clients work, and every message has its result.
pub(crate) async fn check(
    server: &Server,
    observers: &[Stay],
    wanderers: &[Wanderer],
    results: Vec<Results>,
) -> Report {
    let mut report = Report::default();
    let begun = Instant::now();
    let unsettled = loop {
        let mut unsettled = unsettled(server, observers, wanderers);
        unsettled.extend(missing_directs(wanderers, &results));
        if unsettled.is_empty() || begun.elapsed() > SETTLED_WITHIN {
            break unsettled;
        }
        sleep(Duration::from_millis(100)).await;
    };
    report.faults.extend(unsettled);
    let stats = server.rooms.stats();
    (report.entered, report.resumed) = (stats.entered, stats.resumed);
    let logs: Vec<Received> = observers.iter().map(take).collect();
    report.mode_changes = logs.iter().map(|log| log.mode_changes).sum();
    report.faults.extend(logs.iter().flat_map(|log| log.faults.clone()));
    for result in results {
        report.check_results(&logs, result);
    }
    for wanderer in wanderers {
        report.check_directs(&wanderer.name, wanderer.inbox.take());
    }
    for stay in wanderers.iter().flat_map(|wanderer| &wanderer.stays) {
        report.check_received(&logs, stay.room, take(stay));
    }
    report
}

/// Takes what was received. Keeps the `seq` of the last frame, which the next frame must follow.
fn take(stay: &Stay) -> Received {
    let mut received = stay.received();
    let next = Received { last: received.last, presence: received.presence.clone(), ..Received::default() };
    std::mem::replace(&mut *received, next)
}

/// Direct messages that have reached a connection, but not the client yet.
fn missing_directs(wanderers: &[Wanderer], results: &[Results]) -> Vec<String> {
    let inboxes: BTreeMap<&str, &Inbox> =
        wanderers.iter().map(|wanderer| (&*wanderer.name, &wanderer.inbox)).collect();
    let reached = results.iter().flat_map(|results| &results.directs);
    let reached = reached.filter(|(.., result)| result.as_ref().is_ok_and(|reached| *reached > 0));
    reached
        .filter(|(from, to, text, _)| !inboxes[&**to].has(from, text))
        .map(|(_, to, text, _)| format!("{text} has not reached {to}"))
        .collect()
}

/// What is not yet as expected.
fn unsettled(server: &Server, observers: &[Stay], wanderers: &[Wanderer]) -> Vec<String> {
    let mut faults: Vec<String> =
        server.rooms.check_consistency().faults.iter().map(ToString::to_string).collect();
    let stays = || wanderers.iter().flat_map(|wanderer| wanderer.stays.iter().map(move |s| (wanderer, s)));
    for observer in observers {
        let room = observer.room;
        let mut expected: Vec<&str> =
            stays().filter(|(_, stay)| stay.room == room).map(|(wanderer, _)| &*wanderer.name).collect();
        expected.push("observer");
        expected.sort_unstable();
        let roster = Roster::of_server(server, room);
        let names = roster.names();
        if names != expected {
            faults.push(format!("members of room {room}: {names:?} instead of {expected:?}"));
        }
        faults.extend(roster.compare(observer).map(|fault| format!("the observer of room {room} {fault}")));
        let last = observer.received().last;
        for (wanderer, stay) in stays().filter(|(_, stay)| stay.room == room) {
            let received = stay.received().last;
            // A client that has entered without a frame has received nothing until somebody sends a message.
            if received.is_some() && received != last {
                let name = &wanderer.name;
                faults.push(format!("{name} is at {received:?} in room {room}, the observer at {last:?}"));
            }
            let fault = roster.compare(stay);
            faults.extend(fault.map(|fault| format!("{} in room {room} {fault}", wanderer.name)));
        }
    }
    let expected = stays().count() + ROOMS;
    if server.inside() != expected as i64 {
        faults.push(format!("{} memberships by the callbacks instead of {expected}", server.inside()));
    }
    let (sessions, expected) = (server.rooms.check_consistency().sessions, wanderers.len() + 1);
    // A client that is in no room has a connection only sometimes.
    let without_rooms = wanderers.iter().filter(|wanderer| wanderer.stays.is_empty()).count();
    if !(expected - without_rooms..=expected).contains(&sessions) {
        faults.push(format!("{sessions} sessions instead of {expected}"));
    }
    faults
}

impl Report {
    fn check_results(&mut self, logs: &[Received], results: Results) {
        self.faults.extend(results.faults);
        for (from, to, text, result) in results.directs {
            if let Err(error) = result {
                self.faults.push(format!("{text} from {from} to {to}: {error}"));
            }
        }
        for (room, received) in results.left {
            self.check_received(logs, room, received);
        }
        let mut last: BTreeMap<usize, u64> = BTreeMap::new();
        for (room, text, result) in results.sent {
            self.messages += 1;
            let suffix = format!(r#" "{text}""#);
            let mut places = logs[room].frames.iter().filter(|(_, frame)| frame.ends_with(&suffix));
            let place = places.next().map(|(seq, _)| *seq);
            if places.next().is_some() {
                self.faults.push(format!("{text} was published twice in room {room}"));
            }
            match result {
                Ok(seq) if place != Some(seq) => {
                    self.faults.push(format!("{text} in room {room}: at {place:?} instead of {seq}"));
                }
                Ok(_) => {}
                // The room was left before the acknowledgement.
                Err(tower_chat_rooms_client::ClientError::Closed { .. }) => {}
                Err(error) => self.faults.push(format!("{text} in room {room}: {error}")),
            }
            if let Some(place) = place
                && let Some(before) = last.insert(room, place)
                && before > place
            {
                self.faults.push(format!("{text} in room {room} is at {place}, after {before}"));
            }
        }
    }

    fn check_received(&mut self, logs: &[Received], room: usize, received: Received) {
        self.frames += received.frames.len();
        self.faults.extend(received.faults.into_iter().map(|fault| format!("room {room}: {fault}")));
        for (seq, text) in received.frames {
            let expected = logs[room].frames.get(&seq);
            if expected != Some(&text) {
                self.faults.push(format!("room {room}: {text} at {seq} instead of {expected:?}"));
            }
        }
    }

    /// The messages of each sender must be in order, and none may come twice.
    fn check_directs(&mut self, name: &str, directs: Directs) {
        self.faults.extend(directs.faults.into_iter().map(|fault| format!("{name}: {fault}")));
        for (from, texts) in directs.texts {
            self.directs += texts.len();
            let number =
                |text: &String| text.rsplit(' ').next().and_then(|number| number.parse::<u64>().ok());
            if !texts.is_sorted_by(|one, other| number(one) < number(other)) {
                self.faults.push(format!("{name} has received these from {from}: {texts:?}"));
            }
        }
    }
}
