//! Randomness, which the caller supplies.

pub(super) struct Random(Box<dyn FnMut() -> u64 + Send>);

impl Random {
    pub(super) fn new(random: Box<dyn FnMut() -> u64 + Send>) -> Random {
        Random(random)
    }

    /// A number from 0 to 1.
    pub(super) fn part(&mut self) -> f64 {
        ((self.0)() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A message id. Nobody can guess it, so nobody can use it before the message is in the room.
    pub(super) fn message_id(&mut self) -> String {
        format!("{:016x}{:016x}", (self.0)(), (self.0)())
    }
}
