//! What the rooms of a connection share.

use super::Now;
use super::outputs::Outputs;
use super::random::Random;
use super::transients::Transients;
use crate::outgoing::Outgoing;

pub(super) struct Context<T> {
    /// The time of what is being handled.
    pub(super) now: Now,
    pub(super) random: Random,
    pub(super) outgoing: Outgoing<T>,
    pub(super) transients: Transients,
    pub(super) outputs: Outputs<T>,
}

impl<T> Context<T> {
    /// How many frames with messages or transient events are sent and not answered, at most.
    pub(super) fn in_flight(&self) -> usize {
        self.outgoing.in_flight() + self.transients.in_flight(self.now)
    }
}
