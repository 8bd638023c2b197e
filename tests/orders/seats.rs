//! Seats: whoever comes back, gives up or is sent away at the same moment, a standing is in one hand.

use std::sync::Arc;

use shuttle::thread;

use crate::Case;
use crate::engine::absent::Absent;
use crate::engine::handover::Handover;
use crate::engine::recipient::Recipient;
use crate::engine::standing::Standing;
use crate::engine::table::Table;
use crate::engine::tickets::Tickets;
use crate::ids::ConnectionId;
use crate::protocol::close::LeaveReason;
use crate::protocol::resume::Secret;
use crate::sync::Mutex;

pub(crate) const CASES: [Case; 3] = [
    (
        "a_standing_is_given_up_or_taken_over_and_never_both",
        a_standing_is_given_up_or_taken_over_and_never_both,
    ),
    ("a_secret_is_good_for_one", a_secret_is_good_for_one),
    ("who_is_sent_away_while_he_comes_back_is_away", who_is_sent_away_while_he_comes_back_is_away),
];

/// What connections share.
#[derive(Clone)]
struct House {
    table: Arc<Table>,
    tickets: Arc<Tickets>,
    /// What has become of the standing, once for each hand that it ended in.
    ends: Arc<Mutex<Vec<&'static str>>>,
}

impl House {
    fn new() -> House {
        House { table: Arc::new(Table::new()), tickets: Arc::default(), ends: Arc::default() }
    }

    /// A new connection, found in the table, with a secret of its own.
    fn connect(&self, id: u64) -> (Standing, Arc<Absent>) {
        let mut standing = Standing::new(ConnectionId(id), None, None);
        standing.secret = Secret::new();
        let link = Arc::new(Absent::default());
        self.table.insert(standing.id, link.clone());
        self.tickets.issue(&standing);
        (standing, link)
    }

    fn end(&self, what: &'static str) {
        self.ends.lock().unwrap().push(what);
    }

    fn leave(&self, standing: &Standing, link: &Arc<dyn Recipient>, what: &'static str) {
        self.table.remove(standing.id, link);
        self.tickets.void(standing.id, standing.secret);
        self.end(what);
    }

    /// The connection is lost: its standing is kept for a while, as the engine keeps it.
    fn linger(&self, standing: Standing, lost: &Arc<Absent>, patience: usize) {
        let absent = Arc::new(Absent::default());
        let link: Arc<dyn Recipient> = absent.clone();
        self.table.insert(standing.id, link.clone());
        // It may have been given after the connection's end had begun.
        if let Some(verdict) = lost.verdict() {
            absent.close(verdict);
        }
        for _ in 0..patience {
            if absent.verdict().is_some() {
                return self.leave(&standing, &link, "sent away");
            }
            if self.tickets.is_sought(standing.id) {
                let (house, id) = (self.clone(), standing.id);
                let back = move |standing| {
                    house.tickets.issue(&standing);
                    house.leave(&standing, &link, "went back");
                };
                return self.tickets.hand_over(id, Handover::new(standing, absent, back));
            }
            thread::yield_now();
        }
        self.leave(&standing, &link, "given up");
    }

    /// Comes back by another connection. Returns what it has taken over.
    fn seek(&self, secret: &Secret) -> Option<(Standing, Arc<Absent>)> {
        let mut claim = self.tickets.redeem(secret, None)?;
        match self.table.get(claim.id) {
            Some(owner) => owner.close(LeaveReason::Replaced),
            None if self.tickets.give_up(claim.id) => return None,
            None => {}
        }
        loop {
            match claim.handover.try_recv() {
                Ok(handover) => return handover.take(),
                Err(tokio::sync::oneshot::error::TryRecvError::Closed) => return None,
                Err(tokio::sync::oneshot::error::TryRecvError::Empty) => thread::yield_now(),
            }
        }
    }

    /// Takes the place of what it has found, as the engine does.
    fn adopt(&self, own: Standing, link: &Arc<Absent>, found: (Standing, Arc<Absent>)) -> (Standing, bool) {
        let (mut standing, absent) = found;
        standing.secret = own.secret;
        let link: Arc<dyn Recipient> = link.clone();
        self.table.insert(standing.id, link.clone());
        let is_sought = self.tickets.adopt(own.id, &standing);
        self.table.remove(own.id, &link);
        let is_over = absent.verdict().is_some();
        (standing, is_sought || is_over)
    }
}

fn a_standing_is_given_up_or_taken_over_and_never_both() {
    let house = House::new();
    let (standing, lost) = house.connect(1);
    let secret = standing.secret.unwrap();
    let (owner, seeker) = (house.clone(), house.clone());
    let owner = thread::spawn(move || owner.linger(standing, &lost, 3));
    let seeker = thread::spawn(move || {
        if seeker.seek(&secret).is_some() {
            seeker.end("taken over");
        }
    });
    owner.join().unwrap();
    seeker.join().unwrap();
    let ends = house.ends.lock().unwrap();
    assert_eq!(ends.len(), 1, "{ends:?}");
}

fn a_secret_is_good_for_one() {
    let house = House::new();
    let (standing, lost) = house.connect(1);
    let secret = standing.secret.unwrap();
    let owner = house.clone();
    let mut threads = vec![thread::spawn(move || owner.linger(standing, &lost, 4))];
    for _ in 0..2 {
        let house = house.clone();
        threads.push(thread::spawn(move || {
            if house.seek(&secret).is_some() {
                house.end("taken over");
            }
        }));
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let ends = house.ends.lock().unwrap();
    assert_eq!(ends.len(), 1, "{ends:?}");
}

/// An order to leave reaches whoever has the standing, wherever it is just then.
fn who_is_sent_away_while_he_comes_back_is_away() {
    let house = House::new();
    let (standing, lost) = house.connect(1);
    let (id, secret) = (standing.id, standing.secret.unwrap());
    let (own, link) = house.connect(2);
    let (owner, seeker, host) = (house.clone(), house.clone(), house.clone());
    let owner = thread::spawn(move || owner.linger(standing, &lost, 4));
    let seeking = link.clone();
    let seeker = thread::spawn(move || {
        let Some(found) = seeker.seek(&secret) else { return false };
        let (standing, is_over) = seeker.adopt(own, &seeking, found);
        seeker.end("taken over");
        assert_eq!(standing.id, id);
        is_over
    });
    // As `ChatRooms::kick` does.
    let host = thread::spawn(move || {
        let mut last: Option<Arc<dyn Recipient>> = None;
        while let Some(now) = host.table.get(id)
            && last.as_ref().is_none_or(|last| !Arc::ptr_eq(last, &now))
        {
            now.close(LeaveReason::Kicked);
            last = Some(now);
        }
        last.is_some()
    });
    owner.join().unwrap();
    let knows = seeker.join().unwrap();
    let was_there = host.join().unwrap();
    let ends = house.ends.lock().unwrap();
    assert_eq!(ends.len(), 1, "{ends:?}");
    if was_there && ends[0] == "taken over" {
        assert!(knows || link.verdict().is_some(), "he was sent away, and has not heard of it");
    }
}
