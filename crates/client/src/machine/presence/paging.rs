//! Which page of a roster is requested next, and when.

use super::super::Now;

#[derive(Debug, Default)]
pub(super) struct Paging {
    wanted: Option<(Start, Now)>,
    asked: Option<Asked>,
}

/// Where a page of a roster begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Start {
    Beginning,
    After(String),
}

/// A request that is not answered yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    start: Start,
    /// Whether the answer is no longer useful.
    is_outdated: bool,
}

impl Paging {
    /// Schedules a request for this page at this time, instead of the request that was scheduled before. A request for
    /// the first page is not postponed.
    pub(super) fn want(&mut self, start: Start, at: Now) {
        let earlier = match &self.wanted {
            Some((Start::Beginning, earlier)) if start == Start::Beginning => *earlier,
            _ => at,
        };
        self.wanted = Some((start, at.min(earlier)));
        self.asked.iter_mut().for_each(|asked| asked.is_outdated = true);
    }

    /// Nothing is wanted any more.
    pub(super) fn stop(&mut self) {
        self.wanted = None;
        self.asked.iter_mut().for_each(|asked| asked.is_outdated = true);
    }

    /// The client has left the room, or the connection is lost. No answer will come.
    pub(super) fn forget(&mut self) {
        *self = Paging::default();
    }

    /// When the next request is to be sent.
    pub(super) fn deadline(&self) -> Option<Now> {
        self.wanted.as_ref().filter(|_| self.asked.is_none()).map(|(_, at)| *at)
    }

    /// The request that is to be sent by now counts as sent.
    pub(super) fn ask(&mut self, now: Now) -> Option<&Start> {
        self.deadline().filter(|at| *at <= now)?;
        let (start, _) = self.wanted.take()?;
        Some(&self.asked.insert(Asked { start, is_outdated: false }).start)
    }

    /// Whether nothing is requested or to be requested.
    pub(super) fn is_idle(&self) -> bool {
        self.asked.is_none() && self.wanted.is_none()
    }

    /// A request was answered. Returns what was requested; `None` if the answer is not useful.
    pub(super) fn answer(&mut self) -> Option<Start> {
        self.asked.take().filter(|asked| !asked.is_outdated).map(|asked| asked.start)
    }

    /// The server has put off a request until this time.
    pub(super) fn postpone(&mut self, at: Now) {
        if let Some(start) = self.answer() {
            self.want(start, at);
        } else {
            self.wanted.iter_mut().for_each(|(_, when)| *when = at.max(*when));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now::ZERO;
    const LATER: Now = Now::from_secs(1);

    #[test]
    fn one_request_at_a_time() {
        let mut paging = Paging::default();
        assert_eq!(paging.ask(NOW), None);
        paging.want(Start::Beginning, NOW);
        assert_eq!(paging.ask(NOW), Some(&Start::Beginning));
        paging.want(Start::After("c".into()), NOW);
        assert_eq!(paging.ask(NOW), None);
        assert_eq!(paging.deadline(), None);
        assert_eq!(paging.answer(), None, "another one is wanted");
        assert_eq!(paging.ask(NOW), Some(&Start::After("c".into())));
        assert_eq!(paging.answer(), Some(Start::After("c".into())));
    }

    #[test]
    fn a_request_for_the_beginning_is_not_postponed_by_another() {
        let mut paging = Paging::default();
        paging.want(Start::Beginning, NOW);
        paging.want(Start::Beginning, LATER);
        assert_eq!(paging.deadline(), Some(NOW));
        assert_eq!(paging.ask(NOW), Some(&Start::Beginning));
        paging.postpone(LATER);
        assert_eq!(paging.ask(NOW), None);
        assert_eq!(paging.deadline(), Some(LATER));
        assert_eq!(paging.ask(LATER), Some(&Start::Beginning));
        paging.stop();
        paging.postpone(LATER);
        assert_eq!(paging.deadline(), None);
    }
}
