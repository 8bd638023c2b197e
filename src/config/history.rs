use std::time::Duration;

use crate::config::options::OptionValue;

/// Average size of a frame: enough for a name, the protocol's keys, and a few hundred letters of any script.
const BYTES_PER_FRAME: usize = 1024;

/// With only a few frames, the average does not leave room for long ones.
const MIN_BYTES: usize = 64 * 1024;

/// How many of a room's frames are kept for members that return.
///
/// A room drops its oldest frames as soon as any of the three bounds is exceeded. It frees all of them when
/// they are too old, and when the last member leaves, unless you set [`keep_for`](History::keep_for).
///
/// **Memory.** A room keeps at most [`bytes`](History::bytes) of frames, and allocates up to twice as much. With
/// `History::last(100)`, that is 100 KiB and at most 200 KiB for each room in which that much was sent within the last
/// [`age`](History::age). A chat message of a line or two has 150 to 400 bytes as a frame, so rooms usually need less
/// than half of it. [`Limits::max_rooms`](crate::Limits::max_rooms) bounds the number of rooms.
///
/// ```
/// use std::time::Duration;
/// use tower_chat_rooms::History;
///
/// let history = History::last(100).for_at_most(Duration::from_secs(60)).max_bytes(16 * 1024);
/// assert_eq!((history.frames(), history.age().as_secs(), history.bytes()), (100, 60, 16 * 1024));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    frames: usize,
    bytes: usize,
    age: Duration,
    kept_for: Duration,
}

impl History {
    /// The last `frames` frames of each room, for at most 5 minutes, and at most 1 KiB per frame on average, but at
    /// least 64 KiB in total.
    ///
    /// Messages, enters and leaves are frames; heartbeats are not. If your messages are longer than about 900 bytes on
    /// average, set [`max_bytes`](History::max_bytes) as well.
    pub fn last(frames: usize) -> History {
        let bytes = frames.saturating_mul(BYTES_PER_FRAME).max(MIN_BYTES);
        History { frames, bytes, age: Duration::from_secs(5 * 60), kept_for: Duration::ZERO }
    }

    /// Replaces the maximum age of the frames.
    #[must_use]
    pub fn for_at_most(self, age: Duration) -> History {
        History { age, ..self }
    }

    /// Replaces the bytes of frames that a room keeps. The room allocates up to twice as much.
    #[must_use]
    pub fn max_bytes(self, bytes: usize) -> History {
        History { bytes, ..self }
    }

    /// Keeps the frames of a room for this long after its last member has left, so that the next member finds them.
    /// Default: zero, which frees them with the last member.
    ///
    /// The room keeps its epoch, so a client that returns recovers what it has missed. An empty room that is kept
    /// counts against [`Limits::max_rooms`](crate::Limits::max_rooms), and is the first to be removed if there are too
    /// many. Frames older than [`age`](History::age) are freed in any case; without frames, no room is kept.
    #[must_use]
    pub fn keep_for(self, time: Duration) -> History {
        History { kept_for: time, ..self }
    }

    /// The number of frames that a room keeps.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// The bytes of frames that a room keeps.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The maximum age of the frames.
    pub fn age(&self) -> Duration {
        self.age
    }

    /// How long a room keeps its frames after its last member has left.
    pub fn kept_for(&self) -> Duration {
        self.kept_for
    }
}

impl OptionValue for Option<History> {
    const EXPECTED: &'static str = "a number of frames, 0 for none";

    fn from_text(text: &str) -> Option<Option<History>> {
        let frames = text.parse().ok()?;
        Some((frames > 0).then(|| History::last(frames)))
    }

    fn to_text(&self) -> String {
        self.map_or(0, |history| history.frames).to_string()
    }

    fn is_zero(&self) -> bool {
        self.is_none()
    }
}
