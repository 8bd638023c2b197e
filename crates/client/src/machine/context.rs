//! What the rooms of a connection share.

use super::Now;
use super::outputs::Outputs;
use super::random::Random;
use crate::outgoing::Outgoing;

pub(super) struct Context<T> {
    /// The time of what is being handled.
    pub(super) now: Now,
    pub(super) random: Random,
    pub(super) outgoing: Outgoing<T>,
    pub(super) outputs: Outputs<T>,
}
