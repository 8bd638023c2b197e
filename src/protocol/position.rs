//! Positions in a room's log.

/// A place in the order of a room's frames. Positions of different epochs cannot be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub(crate) epoch: Epoch,
    pub(crate) seq: u64,
}

/// Distinguishes the frames of a room from those of an earlier room with the same id, for example before a restart of the
/// server. As text, 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(pub(crate) u64);

impl Position {
    /// Returns the epoch.
    pub fn epoch(self) -> Epoch {
        self.epoch
    }

    /// Returns the number of the frame in its epoch. Enters, leaves and messages are numbered.
    pub fn seq(self) -> u64 {
        self.seq
    }
}

impl Epoch {
    /// An epoch that almost certainly no room has, because the epochs of rooms are random.
    pub(crate) const OTHER: Epoch = Epoch(u64::MAX);

    pub(crate) fn parse(text: &str) -> Option<Epoch> {
        let is_hex = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        is_hex.then(|| u64::from_str_radix(text, 16).ok()).flatten().map(Epoch)
    }
}

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_read_as_it_is_written() {
        for n in [0, 1, 0xabc, u64::MAX] {
            assert_eq!(Epoch::parse(&Epoch(n).to_string()), Some(Epoch(n)));
        }
        for text in ["", "0", "+000000000000001", "000000000000000G", "00000000000000000"] {
            assert_eq!(Epoch::parse(text), None, "{text}");
        }
    }
}
