//! Compares what clients have sent and received, what they know of the members, and what the nodes know.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};
use tower_chat_rooms_client::{ClientError, Member, PresenceMode};

use crate::cluster::{Cluster, Journal};
use crate::faults::{Broken, Faults};
use crate::node::{RESUME_WINDOW, State};
use crate::plain::PlainClient;
use crate::room_log::RoomLogs;
use crate::stay::{Return, Stay};
use crate::wanderer::{Results, Sent, SentDirect, Wanderer};
use crate::{COUNT_ROOM, Failure, ROOMS};

/// How long it may take until the members and frames are as expected: longer than the longest lease, the reaping of a
/// lost node, a heartbeat and the resume window together.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// A client that comes back within the resume window without this time resumes its session: its node may have noticed
/// earlier than itself that the connection was lost, and the machine has much to do.
pub(crate) const MARGIN: Duration = Duration::from_secs(5);

/// How long a node may be stopped and cut off in turn, and not know that Redis was started again.
const NOTICED_WITHIN: Duration = Duration::from_secs(60);

/// What a journal has instead of a room for users that go online and offline.
pub(crate) const USERS: &str = "user";

/// What may happen without being a fault.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    /// A client whose node is gone resumes its session on another one.
    pub(crate) resume: bool,
}

/// Everything that was received so far.
pub(crate) struct Checker {
    expected: Expected,
    rooms: Vec<RoomLogs>,
    /// Those that were reported already: the logs are checked from their beginning each time.
    reported: HashSet<String>,
    pub(crate) totals: Totals,
}

#[derive(Debug, Default)]
pub(crate) struct Totals {
    acknowledged: usize,
    directs: usize,
    /// How often clients have learned that they had missed frames for good.
    gaps: u64,
    /// How often clients have entered as new members.
    enters: u64,
    /// How often clients have come back as new members after a lost connection.
    not_resumed: u64,
    plain_connections: usize,
    twice: usize,
    /// Messages that come before an earlier one of their sender.
    reordered: usize,
}

/// What all clients and nodes know of the members.
struct Known {
    /// By room, the members as one client knows them, and its name.
    members: BTreeMap<usize, (String, Vec<KnownMember>)>,
}

/// A member: its id, name, user, info and state.
#[derive(Debug, PartialEq, Eq)]
struct KnownMember {
    id: String,
    name: String,
    user: Option<String>,
    info: Option<Value>,
    state: Option<Value>,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { acknowledged, directs, gaps, enters, not_resumed, plain_connections, twice, reordered } =
            self;
        write!(
            f,
            "{acknowledged} messages acknowledged, {directs} direct messages received, {enters} enters ({not_resumed} not resumed) and \
             {plain_connections} connections of plain clients, {gaps} gaps reported, {twice} messages published twice \
             because their session or data was lost, {reordered} after a later one"
        )
    }
}

impl Checker {
    pub(crate) fn new(expected: Expected) -> Checker {
        let rooms = (0..ROOMS).map(|_| RoomLogs::default()).collect();
        Checker { expected, rooms, reported: HashSet::new(), totals: Totals::default() }
    }

    /// Checks a round. All networks and programs work, and every message has its result.
    pub(crate) async fn check(
        &mut self,
        cluster: &Cluster,
        broken: &Faults,
        wanderers: &[Wanderer],
        plain: &[PlainClient],
        results: Vec<Results>,
    ) -> Result<Vec<String>, Failure> {
        let begun = Instant::now();
        let mut faults = loop {
            let mut unsettled = unsettled(&states(cluster).await?, wanderers, plain);
            unsettled.extend(missing_directs(wanderers, &results));
            if unsettled.is_empty() || begun.elapsed() > SETTLED_WITHIN {
                break unsettled;
            }
            sleep(Duration::from_millis(200)).await;
        };
        let stays = wanderers.iter().flat_map(|wanderer| &wanderer.stays);
        let left = results.iter().flat_map(|results| &results.left);
        for (name, room, shared) in stays
            .map(|stay| ("a client", stay.room, stay.received()))
            .chain(left.map(|(room, shared)| ("a client that has left", *room, shared)))
        {
            let (runs, found, returns) = {
                let mut received = shared.lock();
                let returns = std::mem::take(&mut received.returns);
                let (now, before) = (received.changes, received.checked);
                self.totals.gaps += now.gaps - before.gaps;
                self.totals.enters += now.enters - before.enters;
                received.checked = now;
                let (runs, found) = received.take();
                (runs, found, returns)
            };
            for returned in returns {
                self.totals.not_resumed += u64::from(returned.is_new);
                faults.extend(
                    self.check_return(&returned, broken).map(|fault| format!("room {room}: {name} {fault}")),
                );
            }
            faults.extend(found.into_iter().map(|fault| format!("room {room}: {name} has received {fault}")));
            for run in runs {
                let found = self.rooms[room].add(run);
                faults.extend(found.into_iter().map(|fault| format!("room {room}: {fault}")));
            }
        }
        for client in plain {
            let mut received = client.received();
            faults.append(&mut received.faults);
            let last = received.runs.pop();
            for frames in received.runs.drain(..).chain(last) {
                if let Some(fault) = self.rooms[client.room].check_plain(&frames) {
                    faults.push(format!("room {}: {} has received {fault}", client.room, client.name));
                }
            }
            // The next frame follows.
            received.runs.push(Vec::new());
        }
        for (room, logs) in self.rooms.iter().enumerate() {
            let found = logs.check(room != COUNT_ROOM).into_iter();
            faults.extend(found.map(|fault| format!("room {room}: {fault}")));
        }
        for results in results {
            faults.extend(results.faults);
            self.check_sent(&results.sent, broken, &mut faults);
            for SentDirect { from, to, text, result, .. } in results.directs {
                if let Err(error) = result {
                    faults.push(format!("{text} from {from} to {to}: {error}"));
                }
            }
        }
        for wanderer in wanderers {
            self.check_directs(wanderer, &mut faults);
        }
        self.totals.plain_connections = plain.iter().map(|client| client.received().connections).sum();
        faults.retain(|fault| self.reported.insert(fault.clone()));
        Ok(faults)
    }

    /// A session that can be resumed is resumed on any node, and frames are only lost with a run of Redis or a room.
    fn check_return(&self, returned: &Return, broken: &Faults) -> Option<String> {
        let Return { entered, lost, at, is_new, has_gap } = *returned;
        if !self.expected.resume {
            return None;
        }
        // A room is forgotten if nobody is in it any more, because all nodes were away for long.
        let is_cause = |kind| broken.was(kind, entered - NOTICED_WITHIN, at);
        if has_gap && ![Broken::Restart, Broken::LongFault].into_iter().any(is_cause) {
            return Some(format!(
                "has missed frames without a restart of Redis: {:?} after it had entered",
                at - entered
            ));
        }
        let is_short = at - lost + MARGIN <= RESUME_WINDOW;
        let since = entered.min(lost - NOTICED_WITHIN);
        let has_cause = [Broken::Loss, Broken::LongFault].into_iter().any(|kind| broken.was(kind, since, at));
        (is_new && is_short && !has_cause)
            .then(|| format!("has come back after {:?} without its session", at - lost))
    }

    /// The number of different frames that were received.
    pub(crate) fn frames(&self) -> usize {
        self.rooms.iter().map(RoomLogs::len).sum()
    }

    /// Each acknowledged message is in its room's log, unless its sender has learned that frames are missing.
    fn check_sent(&mut self, sent: &[Sent], broken: &Faults, faults: &mut Vec<String>) {
        // The last place in each log.
        let mut last: HashMap<(usize, usize), u64> = HashMap::new();
        for Sent { room, text, at, before, stay, result } in sent {
            let places = self.rooms[*room].places(text);
            let (has_gap, has_left, is_other_session) = {
                let received = stay.lock();
                let now = received.changes;
                (now.gaps > before.gaps, received.has_left, now.enters > before.enters)
            };
            match result {
                Ok(seq) => {
                    self.totals.acknowledged += 1;
                    let is_there = places.iter().any(|(_, place)| place == seq);
                    if !is_there && !has_gap && !has_left {
                        faults.push(format!(
                            "room {room}: {text} was acknowledged at {seq}, but is at {places:?}"
                        ));
                    }
                }
                // The room was left before the acknowledgement.
                Err(ClientError::Closed { .. }) => {}
                Err(error) => faults.push(format!("room {room}: {text}: {error}")),
            }
            if places.len() > 1 {
                self.totals.twice += 1;
                // A client that sends a message again as another member may have it published twice. So may any client if
                // Redis has lost the ids of messages meanwhile.
                let may_be_other = is_other_session && (has_gap || !self.expected.resume);
                if !may_be_other && !broken.was(Broken::Loss, *at, Instant::now()) {
                    faults.push(format!("room {room}: {text} was published twice: at {places:?}"));
                }
            }
            // A message that was refused while Redis was away is sent again, possibly after others that were not.
            if let [(log, place)] = places {
                let previous = last.entry((*room, *log)).or_insert(*place);
                if *previous > *place {
                    self.totals.reordered += 1;
                }
                *previous = *place;
            }
        }
    }

    /// No message may come twice. One that was refused while Redis was away is sent again, possibly after others that were
    /// not.
    fn check_directs(&mut self, wanderer: &Wanderer, faults: &mut Vec<String>) {
        let directs = wanderer.inbox.take();
        faults.extend(directs.faults.into_iter().map(|fault| format!("{}: {fault}", wanderer.name)));
        for (from, texts) in directs.texts {
            self.totals.directs += texts.len();
            let number =
                |text: &String| text.rsplit(' ').next().and_then(|number| number.parse::<u64>().ok());
            self.totals.reordered += texts
                .iter()
                .zip(texts.iter().skip(1))
                .filter(|(one, other)| number(one) > number(other))
                .count();
            let different: HashSet<&String> = texts.iter().collect();
            if different.len() < texts.len() {
                faults.push(format!("{} has received these from {from}: {texts:?}", wanderer.name));
            }
        }
    }
}

/// What the nodes have told their hosts of a member or a user.
#[derive(Default)]
struct Told<'a> {
    /// How often it has entered and not left.
    inside: i64,
    enters: usize,
    journals: BTreeSet<&'a str>,
    /// How often a node has told that it has left because its node was lost.
    lost: i64,
    /// When it has entered or left last, in ms, and whether it has left.
    last: (u64, bool),
}

/// How many members and users were told of with more enters or more leaves.
#[derive(Debug, Default)]
pub(crate) struct Unbalanced {
    pub(crate) more_enters: usize,
    pub(crate) more_leaves: usize,
}

/// Checks that the nodes have told their hosts of each leave once. Calls may be missing or repeated as the documentation of
/// `ChatRoomsBuilder::broker` says: nodes that were killed could not tell all; a node may be taken for lost and be there
/// after all, so that two tell of a leave; nobody may tell of a member that has moved while it entered; and nobody can tell of
/// members that a killed node has left behind if Redis loses its data. Returns the faults, and how many members and users
/// were told of with other numbers of enters and leaves.
pub(crate) fn check_journals(journals: &[Journal], broken: &Faults) -> (Vec<String>, Unbalanced) {
    let mut members: BTreeMap<(&str, &str), Told<'_>> = BTreeMap::new();
    let mut faults = Vec::new();
    for journal in journals {
        for line in journal.text.lines() {
            let mut words = line.splitn(5, ' ');
            let at = words.next().and_then(|at| at.parse().ok());
            let (Some(at), Some(sign), Some(room), Some(member)) =
                (at, words.next(), words.next(), words.next())
            else {
                faults.push(format!("{}: unreadable: {line}", journal.name));
                continue;
            };
            let told = members.entry((room, member)).or_default();
            let has_left = sign == "-";
            told.inside += if has_left { -1 } else { 1 };
            told.enters += usize::from(!has_left);
            told.journals.insert(&journal.name);
            told.lost += i64::from(words.next() == Some("node lost"));
            told.last = told.last.max((at, has_left));
        }
    }
    let mut unbalanced = Unbalanced::default();
    let (breaks, losses) = (broken.of_nodes() as i64, broken.losses() as i64);
    let kills = journals.iter().filter(|journal| journal.was_killed).count() as i64;
    let has_killed = kills > 0;
    for ((room, member), told) in members {
        let Told { inside, enters, journals, lost, last } = told;
        unbalanced.more_enters += usize::from(inside > 0);
        unbalanced.more_leaves += usize::from(inside < 0);
        // It may have moved while it entered, and its new node may not have heard of that.
        let may_be_unknown = journals.len() > 1 || enters == 0;
        let (most, least) = match (room == USERS, has_killed) {
            (true, true) => (breaks, -breaks),
            (true, false) => (losses, -breaks),
            // Each node that was killed may not have told of an enter, or of a leave.
            (false, true) => (kills, -lost - kills),
            (false, false) => (0, -lost - i64::from(may_be_unknown)),
        };
        if inside > most || inside < least || (!has_killed && !last.1) {
            faults.push(format!(
                "the nodes have told {inside} more enters than leaves of {member} in room {room}"
            ));
        }
    }
    (faults, unbalanced)
}

async fn states(cluster: &Cluster) -> Result<Vec<State>, Failure> {
    let mut states = Vec::new();
    for node in &cluster.nodes {
        states.push(node.state().await?);
    }
    Ok(states)
}

/// Direct messages that have reached a connection, but not the client yet.
fn missing_directs(wanderers: &[Wanderer], results: &[Results]) -> Vec<String> {
    let reached = results.iter().flat_map(|results| &results.directs);
    let reached = reached.filter(|sent| sent.result.as_ref().is_ok_and(|reached| *reached > 0));
    reached
        .filter(|SentDirect { from, to, text, at, .. }| {
            let recipient = wanderers.iter().find(|wanderer| wanderer.name == *to);
            recipient.is_none_or(|recipient| !recipient.inbox.has_or_misses(from, text, *at))
        })
        .map(|SentDirect { to, text, .. }| format!("{text} has not reached {to}"))
        .collect()
}

/// What is not yet as expected.
fn unsettled(states: &[State], wanderers: &[Wanderer], plain: &[PlainClient]) -> Vec<String> {
    let mut faults: Vec<String> = states.iter().flat_map(|state| state.faults.clone()).collect();
    let mut known = Known { members: BTreeMap::new() };
    for room in 0..ROOMS {
        let stays =
            || wanderers.iter().flat_map(|wanderer| wanderer.stays.iter().map(move |stay| (wanderer, stay)));
        let stays = || stays().filter(|(_, stay)| stay.room == room);
        let mut expected: BTreeSet<&str> = stays().map(|(wanderer, _)| &*wanderer.name).collect();
        expected.extend(plain.iter().filter(|client| client.room == room).map(|client| &*client.name));
        let last = stays().filter_map(|(_, stay)| stay.received().lock().last).max();
        for (wanderer, stay) in stays() {
            let name = &wanderer.name;
            let received = stay.received().lock().last;
            // A client that has come back in another epoch has received nothing until somebody sends a message.
            if received.is_some() && received != last {
                faults.push(format!("room {room}: {name} is at {received:?}, another client at {last:?}"));
            }
            if let Some(fault) = known.compare(name, stay, &expected) {
                faults.push(format!("room {room}: {name} {fault}"));
            }
        }
        for (node, state) in states.iter().enumerate() {
            let online = state.rooms.get(&room.to_string()).copied();
            if online.is_some_and(|online| online != expected.len()) {
                let expected = expected.len();
                faults
                    .push(format!("room {room}: node {} counts {online:?} instead of {expected}", node + 1));
            }
        }
    }
    for client in plain {
        if !client.received().is_inside {
            faults.push(format!("{} is not in its room", client.name));
        }
    }
    faults
}

impl Known {
    /// Returns how a client's knowledge differs from what it should be or from what others know.
    fn compare(&mut self, name: &str, stay: &Stay, expected: &BTreeSet<&str>) -> Option<String> {
        let received = stay.received().lock();
        if !received.is_online {
            return Some("is not online".into());
        }
        let Some(presence) = &received.presence else {
            return Some("knows nothing about the members".into());
        };
        if presence.num() != expected.len() as u64 {
            return Some(format!("knows {} members instead of {}", presence.num(), expected.len()));
        }
        if stay.room == COUNT_ROOM {
            return presence.members().map(|_| format!("knows members in mode {:?}", presence.mode()));
        }
        if presence.mode() != PresenceMode::Full || !presence.is_complete() {
            return Some("does not know all members".into());
        }
        let members: Vec<KnownMember> =
            presence.members().unwrap_or_default().iter().map(KnownMember::of).collect();
        let names: BTreeSet<&str> = members.iter().map(|member| &*member.name).collect();
        if names != *expected {
            return Some(format!("knows {names:?} instead of {expected:?}"));
        }
        let (other, others) = match self.members.get(&stay.room) {
            Some(others) => others,
            None => {
                self.members.insert(stay.room, (name.to_owned(), members));
                return None;
            }
        };
        let differences: Vec<_> = others.iter().zip(&members).filter(|(one, other)| one != other).collect();
        (!differences.is_empty()).then(|| format!("knows other members than {other}: {differences:?}"))
    }
}

impl KnownMember {
    fn of(member: &Member) -> KnownMember {
        KnownMember {
            id: member.id().into(),
            name: member.name().into(),
            user: member.user().map(Into::into),
            info: member.info().cloned(),
            state: member.state().cloned(),
        }
    }
}
