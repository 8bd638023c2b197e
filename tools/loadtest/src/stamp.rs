//! The time stamp in a message, which all members of the room receive.

use std::fmt;

/// Starts a stamp. No member name or room id of the load generator contains it.
const MARK: &str = "~lt:";

/// Who sent a message, and when it was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The sender's number among all connections.
    pub(crate) sender: usize,
    /// The message's number, counted per sender; `None` for an enter.
    pub(crate) number: Option<u64>,
    /// Nanoseconds since the start of the run.
    pub(crate) due: u64,
}

impl Stamp {
    /// Finds the stamp in a frame from the server without parsing the frame, for speed.
    pub(crate) fn find(text: &str) -> Option<Stamp> {
        let (_, rest) = text.split_once(MARK)?;
        let mut fields = rest.split_once('~')?.0.split(':');
        let sender = fields.next()?.parse().ok()?;
        let number = match fields.next()? {
            "enter" => None,
            number => Some(number.parse().ok()?),
        };
        Some(Stamp { sender, number, due: fields.next()?.parse().ok()? })
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MARK}{}:", self.sender)?;
        match self.number {
            Some(number) => write!(f, "{number}:{}~", self.due),
            None => write!(f, "enter:{}~", self.due),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_found_as_written() {
        for number in [None, Some(0), Some(u64::MAX)] {
            let stamp = Stamp { sender: 7, number, due: 123_456 };
            assert_eq!(Stamp::find(&format!(r#"{{"message":"{stamp}xxx","num":3}}"#)), Some(stamp));
        }
        for other in ["", "{}", "~lt:", "~lt:1:2~", "~lt:x:1:2~", "~lt:1:2:3"] {
            assert_eq!(Stamp::find(other), None);
        }
    }
}
