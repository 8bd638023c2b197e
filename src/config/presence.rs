use crate::error::BuildError;

/// What the members of a room learn about each other.
///
/// [`ChatRoomsBuilder::presence`](crate::ChatRoomsBuilder::presence) sets it for all rooms, and
/// [`RoomPolicy::presence`](crate::RoomPolicy::presence) for a single room. Your callbacks,
/// [`ChatRooms::members`](crate::ChatRooms::members) and all counts are exact in every mode.
///
/// With [`Presence::Full`], the cost of a room grows with the square of its members: while 10,000 clients enter a room,
/// they receive 50 million frames. For a room of more than about a thousand members, use [`Presence::Count`] or
/// [`Presence::auto`].
///
/// ```
/// use tower_chat_rooms::{ChatRooms, Presence};
///
/// # fn main() -> Result<(), tower_chat_rooms::BuildError> {
/// // A room that reaches 1,000 members announces only their number, until it is down to 500.
/// let rooms = ChatRooms::builder().presence(Presence::auto(1000, 500)?).build()?;
/// # drop(rooms);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Presence {
    /// Members get a frame for each enter and leave. A `chat-rooms.v1` client knows all members, with the user, info
    /// and state of each.
    #[default]
    Full,
    /// Members get no frames for enters and leaves. A `chat-rooms.v1` client is told the number of members, at most once
    /// a second, or immediately if the first member enters or the last one leaves. A plain client gets only its own
    /// enter, and learns the number with the next frame.
    Count,
    /// As with [`Presence::Count`], but the number of members is only in other frames.
    Quiet,
    /// [`Presence::Full`] in a small room, [`Presence::Count`] in a large one. Created by [`Presence::auto`].
    Auto(AutoPresence),
}

/// When a room switches between [`Presence::Full`] and [`Presence::Count`]. Created by [`Presence::auto`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AutoPresence {
    /// The number of members at which the room switches to [`Presence::Count`]. No room has more members than a `u32`
    /// can hold.
    on: u32,
    /// The number of members at which the room switches back.
    off: u32,
}

/// What the members of a room learn about each other at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum PresenceMode {
    Full,
    Count,
    Quiet,
}

impl Presence {
    /// [`Presence::Full`] while a room is small, and [`Presence::Count`] while it is large.
    ///
    /// A room starts small. It becomes large when an enter raises its number of members to `on`, and small again when a
    /// leave lowers it to `off`.
    ///
    /// Whenever it changes back, all clients ask for the members. Choose numbers so far apart that a few clients that enter
    /// and leave cannot cause this again and again.
    ///
    /// # Errors
    ///
    /// If `off` is not less than `on`.
    pub fn auto(on: usize, off: usize) -> Result<Presence, BuildError> {
        if off >= on {
            return Err(BuildError::new(format!(
                "Presence::auto({on}, {off}): the second number must be less than the first"
            )));
        }
        let [on, off] = [on, off].map(|num| u32::try_from(num).unwrap_or(u32::MAX));
        Ok(Presence::Auto(AutoPresence { on, off }))
    }

    /// The mode in which a room starts.
    pub(crate) fn start(self) -> PresenceMode {
        match self {
            Presence::Full | Presence::Auto(_) => PresenceMode::Full,
            Presence::Count => PresenceMode::Count,
            Presence::Quiet => PresenceMode::Quiet,
        }
    }

    /// The mode of a room that has this many members now.
    pub(crate) fn next(self, mode: PresenceMode, num: u64) -> PresenceMode {
        match (self, mode) {
            (Presence::Auto(auto), PresenceMode::Full) if num >= auto.on.into() => PresenceMode::Count,
            (Presence::Auto(auto), PresenceMode::Count) if num <= auto.off.into() => PresenceMode::Full,
            _ => mode,
        }
    }
}

impl PresenceMode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            PresenceMode::Full => "full",
            PresenceMode::Count => "count",
            PresenceMode::Quiet => "quiet",
        }
    }

    /// The inverse of `mode as u8`.
    pub(crate) fn of(code: u8) -> PresenceMode {
        [PresenceMode::Full, PresenceMode::Count, PresenceMode::Quiet]
            .into_iter()
            .find(|mode| *mode as u8 == code)
            .unwrap_or(PresenceMode::Full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_has_a_hysteresis() {
        let auto = Presence::auto(4, 2).unwrap();
        let mut mode = auto.start();
        let mut modes = Vec::new();
        for num in [1, 2, 3, 4, 3, 4, 5, 4, 3, 2, 3, 2, 1, 0, 1, 2, 3, 4] {
            mode = auto.next(mode, num);
            modes.push((num, mode.as_str()));
        }
        let counting = |from: usize, to| modes[from..to].iter().all(|(_, mode)| *mode == "count");
        let full = |from: usize, to| modes[from..to].iter().all(|(_, mode)| *mode == "full");
        assert!(full(0, 3) && counting(3, 9) && full(9, 17) && counting(17, 18), "{modes:?}");
    }

    #[test]
    fn the_other_settings_never_change() {
        for presence in [Presence::Full, Presence::Count, Presence::Quiet] {
            for num in [0, 1, 1_000_000] {
                assert_eq!(presence.next(presence.start(), num), presence.start());
            }
            assert_eq!(PresenceMode::of(presence.start() as u8), presence.start());
        }
    }

    #[test]
    fn auto_needs_a_gap() {
        for (on, off) in [(0, 0), (5, 5), (5, 6)] {
            assert!(
                Presence::auto(on, off).unwrap_err().to_string().contains("Presence::auto"),
                "{on} {off}"
            );
        }
        assert!(Presence::auto(1, 0).is_ok());
    }
}
