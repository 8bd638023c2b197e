//! What happens to the clients.

use tokio::time::Instant;

/// Something that happened to a client.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) client: usize,
    pub(crate) what: What,
    pub(crate) at: Instant,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Its connection was cut.
    Cut,
    /// It has entered the room, with or without its session.
    Entered { resumed: bool },
    /// It has received a message.
    Got(u64),
    /// It reports something else.
    Note(String),
}

impl Event {
    /// Something that happens now.
    pub(crate) fn now(client: usize, what: What) -> Event {
        Event { client, what, at: Instant::now() }
    }

    /// Parses a line of the program with the clients.
    pub(crate) fn parse(line: &str) -> Event {
        let words: Vec<&str> = line.split(' ').collect();
        let (client, what) = match *words {
            ["entered", client, "resumed"] => (client.parse().ok(), Some(What::Entered { resumed: true })),
            ["entered", client, "new"] => (client.parse().ok(), Some(What::Entered { resumed: false })),
            ["got", client, number] => (client.parse().ok(), number.parse().ok().map(What::Got)),
            _ => (None, None),
        };
        match (client, what) {
            (Some(client), Some(what)) => Event::now(client, what),
            _ => Event::now(0, What::Note(line.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_program_are_events() {
        let parse = |line| {
            let event = Event::parse(line);
            (event.client, event.what)
        };
        assert_eq!(parse("entered 3 resumed"), (3, What::Entered { resumed: true }));
        assert_eq!(parse("entered 0 new"), (0, What::Entered { resumed: false }));
        assert_eq!(parse("got 12 345"), (12, What::Got(345)));
        assert_eq!(parse("got 12 many"), (0, What::Note("got 12 many".into())));
        assert_eq!(parse(""), (0, What::Note(String::new())));
    }
}
