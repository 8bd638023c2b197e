//! What each client has received, and how long it was without a connection.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::event::{Event, What};

/// Everything that has happened.
#[derive(Debug, Default)]
pub(crate) struct Report {
    clients: BTreeMap<usize, Client>,
    last_cut: Option<Instant>,
}

#[derive(Debug, Default)]
struct Client {
    numbers: HashSet<u64>,
    highest: u64,
    duplicates: usize,
    out_of_order: usize,
    cuts: usize,
    /// For each enter after the first, whether it has resumed its session.
    resumed: usize,
    not_resumed: usize,
    is_in_room: bool,
    /// Since when it is without a connection.
    cut_at: Option<Instant>,
    away: Vec<Duration>,
    /// When it came back for the last time.
    back_at: Option<Instant>,
}

impl Report {
    pub(crate) fn note(&mut self, event: Event) {
        if let What::Note(note) = &event.what {
            println!("{note}");
            return;
        }
        if event.what == What::Cut {
            self.last_cut = Some(event.at);
        }
        self.clients.entry(event.client).or_default().note(&event);
    }

    /// How many clients are in the room.
    pub(crate) fn in_room(&self) -> usize {
        self.clients.values().filter(|client| client.is_in_room).count()
    }

    /// How often connections were cut.
    pub(crate) fn cuts(&self) -> usize {
        self.sum(|client| client.cuts)
    }

    /// Whether all clients have received all messages up to this number.
    pub(crate) fn is_complete(&self, sent: u64, clients: usize) -> bool {
        self.lost(sent, clients) == 0
    }

    pub(crate) fn progress(&self, cuts: usize) -> String {
        format!("{} of {cuts} cuts, {} reconnections", self.cuts(), self.sum(Client::returns))
    }

    /// Prints the results, and returns the number of faults.
    pub(crate) fn print(&self, sent: u64, clients: usize, took: Duration) -> usize {
        let lost = self.lost(sent, clients);
        let duplicates = self.sum(|client| client.duplicates);
        let out_of_order = self.sum(|client| client.out_of_order);
        let expected = sent as usize * clients;
        let (resumed, returns) = (self.sum(|client| client.resumed), self.sum(Client::returns));
        let mut away: Vec<Duration> =
            self.clients.values().flat_map(|client| &client.away).copied().collect();
        away.sort();
        let at = |part: f64| {
            away.get((away.len().saturating_sub(1) as f64 * part) as usize).copied().unwrap_or_default()
        };
        println!("{sent} messages to {clients} clients, {} cuts, {took:.0?}", self.cuts());
        println!("lost {lost} of {expected} ({:.2} %)", 100.0 * lost as f64 / expected as f64);
        println!("duplicated {duplicates}, out of order {out_of_order}");
        println!("reconnections {returns}, sessions resumed {resumed}");
        println!("without a connection: p50 {:.1?}, longest {:.1?}", at(0.5), at(1.0));
        if let Some(last) = self.last_cut {
            let back = self.clients.values().filter_map(|client| client.back_after(last)).max();
            println!("from the last cut until the last client is back: {:.1?}", back.unwrap_or_default());
        }
        lost + duplicates + out_of_order
    }

    fn lost(&self, sent: u64, clients: usize) -> usize {
        sent as usize * clients - self.sum(|client| client.numbers.len())
    }

    fn sum(&self, of: impl Fn(&Client) -> usize) -> usize {
        self.clients.values().map(of).sum()
    }
}

impl Client {
    fn note(&mut self, event: &Event) {
        match event.what {
            What::Cut => {
                self.cuts += 1;
                self.is_in_room = false;
                self.cut_at.get_or_insert(event.at);
            }
            What::Entered { resumed } => {
                self.is_in_room = true;
                if let Some(cut_at) = self.cut_at.take() {
                    self.away.push(event.at - cut_at);
                    self.back_at = Some(event.at);
                    *(if resumed { &mut self.resumed } else { &mut self.not_resumed }) += 1;
                }
            }
            What::Got(number) => {
                if !self.numbers.insert(number) {
                    self.duplicates += 1;
                } else if number < self.highest {
                    self.out_of_order += 1;
                }
                self.highest = self.highest.max(number);
            }
            What::Note(_) => {}
        }
    }

    /// How often it has come back.
    fn returns(&self) -> usize {
        self.resumed + self.not_resumed
    }

    /// How long after this cut it came back.
    fn back_after(&self, last_cut: Instant) -> Option<Duration> {
        self.back_at?.checked_duration_since(last_cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(of: impl IntoIterator<Item = What>) -> Report {
        let mut report = Report::default();
        of.into_iter().for_each(|what| report.note(Event::now(0, what)));
        report
    }

    #[test]
    fn missing_messages_are_lost() {
        let report = report([1, 2, 4].map(What::Got));
        assert_eq!((report.lost(4, 1), report.lost(4, 2)), (1, 5));
        assert_eq!(report.print(4, 1, Duration::ZERO), 1);
        assert!(!report.is_complete(4, 1));
    }

    #[test]
    fn duplicates_and_wrong_order_are_faults() {
        let report = report([1, 3, 2, 3, 4].map(What::Got));
        assert_eq!((report.clients[&0].duplicates, report.clients[&0].out_of_order), (1, 1));
        assert_eq!(report.print(4, 1, Duration::ZERO), 2);
        assert!(report.is_complete(4, 1));
    }

    #[test]
    fn only_enters_after_a_cut_are_reconnections() {
        let entered = |resumed| What::Entered { resumed };
        let events =
            [entered(false), What::Cut, entered(true), What::Cut, What::Cut, entered(false), What::Cut];
        let report = report(events);
        let client = &report.clients[&0];
        assert_eq!((client.resumed, client.not_resumed, client.away.len()), (1, 1, 2));
        assert_eq!((report.cuts(), report.in_room()), (4, 0));
    }
}
