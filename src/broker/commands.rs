//! What nodes ask each other to do, and their answers.

use bytes::{BufMut, Bytes};

use crate::broker::wire::{Reader, Unreadable, VERSION, put};
use crate::ids::ConnectionId;

const KICK: u8 = 1;
const KICK_USER: u8 = 2;
const CLOSE_ROOM: u8 = 3;
const BROADCAST: u8 = 4;
const SEND_TO: u8 = 5;
const SEND_TO_USER: u8 = 6;
const SEND_DIRECT: u8 = 7;
const SET_INFO: u8 = 8;
const SET_ACCESS: u8 = 9;
const ROOMS_OF: u8 = 10;
const ANSWER: u8 = 11;
const REMOVE_ANONYMOUS: u8 = 12;

const IS_READ_ONLY: u64 = 1;
const IS_HIDDEN: u64 = 2;

/// In a command that is not about one connection.
const NOBODY: ConnectionId = ConnectionId(0);

/// A command with its sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    /// The node that it comes from.
    pub(crate) node: u32,
    /// The number of the question, if it waits for an answer or is one; else 0.
    pub(crate) question: u64,
    pub(crate) command: Command<'a>,
}

/// What another node is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command<'a> {
    Kick(ConnectionId),
    KickUser(&'a str),
    CloseRoom(&'a str),
    Broadcast {
        object: &'a str,
    },
    SendTo {
        connection: ConnectionId,
        object: &'a str,
    },
    /// A frame of the host.
    SendToUser {
        user: &'a str,
        object: &'a str,
    },
    /// A frame of a client. Without one, the connections are counted that it would reach.
    SendDirect {
        user: &'a str,
        frame: Option<&'a str>,
        /// The client and its id of the message: it is sent once.
        sender: ConnectionId,
        cid: Option<&'a str>,
    },
    SetInfo {
        room: &'a str,
        connection: ConnectionId,
        info: Option<&'a str>,
    },
    SetAccess {
        room: &'a str,
        connection: ConnectionId,
        info: Option<&'a str>,
        is_read_only: bool,
        is_hidden: bool,
    },
    RoomsOf(&'a str),
    /// A user enters the room whose own name this anonymous member has.
    RemoveAnonymous {
        holder: ConnectionId,
        room: &'a str,
        name: &'a str,
    },
    Answer(Answer),
}

/// What has become of a command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) number: u64,
    pub(crate) texts: Vec<String>,
}

impl From<usize> for Answer {
    fn from(number: usize) -> Answer {
        Answer { number: number as u64, ..Answer::default() }
    }
}

impl From<bool> for Answer {
    fn from(is_done: bool) -> Answer {
        usize::from(is_done).into()
    }
}

impl Message<'_> {
    pub(crate) fn encode(&self) -> Bytes {
        let (kind, id, number, texts) = self.command.parts();
        let mut body = vec![VERSION];
        body.put_u32(self.node);
        body.put_u64(self.question);
        body.put_u8(kind);
        body.put_u64(id.0);
        body.put_u64(number);
        for text in texts {
            put(&mut body, text.map(str::as_bytes));
        }
        body.into()
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Message<'_>, Unreadable> {
        let mut body = Reader::new(body)?;
        let node = u32::from_be_bytes(body.array()?);
        let question = u64::from_be_bytes(body.array()?);
        let [kind] = body.array()?;
        let connection = ConnectionId(u64::from_be_bytes(body.array()?));
        let number = u64::from_be_bytes(body.array()?);
        let command = match kind {
            KICK => Command::Kick(connection),
            KICK_USER => Command::KickUser(text(&mut body)?),
            CLOSE_ROOM => Command::CloseRoom(text(&mut body)?),
            BROADCAST => Command::Broadcast { object: text(&mut body)? },
            SEND_TO => Command::SendTo { connection, object: text(&mut body)? },
            SEND_TO_USER => Command::SendToUser { user: text(&mut body)?, object: text(&mut body)? },
            SEND_DIRECT => Command::SendDirect {
                user: text(&mut body)?,
                frame: body.text()?,
                sender: connection,
                cid: body.text()?,
            },
            SET_INFO => Command::SetInfo { room: text(&mut body)?, connection, info: body.text()? },
            SET_ACCESS => Command::SetAccess {
                room: text(&mut body)?,
                connection,
                info: body.text()?,
                is_read_only: number & IS_READ_ONLY != 0,
                is_hidden: number & IS_HIDDEN != 0,
            },
            ROOMS_OF => Command::RoomsOf(text(&mut body)?),
            REMOVE_ANONYMOUS => Command::RemoveAnonymous {
                holder: connection,
                room: text(&mut body)?,
                name: text(&mut body)?,
            },
            ANSWER => {
                let mut texts = Vec::new();
                while !body.is_empty() {
                    texts.push(text(&mut body)?.to_owned());
                }
                Command::Answer(Answer { number, texts })
            }
            _ => return Err(Unreadable),
        };
        Ok(Message { node, question, command })
    }
}

impl Command<'_> {
    /// Its kind, connection, number and texts.
    fn parts(&self) -> (u8, ConnectionId, u64, Vec<Option<&str>>) {
        match *self {
            Command::Kick(connection) => (KICK, connection, 0, vec![]),
            Command::KickUser(user) => (KICK_USER, NOBODY, 0, vec![Some(user)]),
            Command::CloseRoom(room) => (CLOSE_ROOM, NOBODY, 0, vec![Some(room)]),
            Command::Broadcast { object } => (BROADCAST, NOBODY, 0, vec![Some(object)]),
            Command::SendTo { connection, object } => (SEND_TO, connection, 0, vec![Some(object)]),
            Command::SendToUser { user, object } => (SEND_TO_USER, NOBODY, 0, vec![Some(user), Some(object)]),
            Command::SendDirect { user, frame, sender, cid } => {
                (SEND_DIRECT, sender, 0, vec![Some(user), frame, cid])
            }
            Command::SetInfo { room, connection, info } => (SET_INFO, connection, 0, vec![Some(room), info]),
            Command::SetAccess { room, connection, info, is_read_only, is_hidden } => {
                let flags = u64::from(is_read_only) * IS_READ_ONLY + u64::from(is_hidden) * IS_HIDDEN;
                (SET_ACCESS, connection, flags, vec![Some(room), info])
            }
            Command::RoomsOf(user) => (ROOMS_OF, NOBODY, 0, vec![Some(user)]),
            Command::RemoveAnonymous { holder, room, name } => {
                (REMOVE_ANONYMOUS, holder, 0, vec![Some(room), Some(name)])
            }
            Command::Answer(Answer { number, ref texts }) => {
                (ANSWER, NOBODY, number, texts.iter().map(|text| Some(&**text)).collect())
            }
        }
    }
}

fn text<'a>(body: &mut Reader<'a>) -> Result<&'a str, Unreadable> {
    body.text()?.ok_or(Unreadable)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn commands_are_read_as_they_are_written(
            node: u32, question: u64, id: u64, one: String, other: String, maybe: Option<String>,
            flags: [bool; 2], texts: Vec<String>,
        ) {
            let (connection, object, user, room) = (ConnectionId(id), &*one, &*other, &*other);
            let (info, [is_read_only, is_hidden]) = (maybe.as_deref(), flags);
            for command in [
                Command::Kick(connection),
                Command::KickUser(user),
                Command::CloseRoom(room),
                Command::Broadcast { object },
                Command::SendTo { connection, object },
                Command::SendToUser { user, object },
                Command::SendDirect { user, frame: Some(object), sender: connection, cid: info },
                Command::SendDirect { user, frame: info, sender: connection, cid: None },
                Command::SetInfo { room, connection, info },
                Command::SetAccess { room, connection, info, is_read_only, is_hidden },
                Command::RoomsOf(user),
                Command::RemoveAnonymous { holder: connection, room, name: object },
                Command::Answer(Answer { number: id, texts: texts.clone() }),
            ] {
                let message = Message { node, question, command };
                let body = message.encode();
                prop_assert_eq!(Message::decode(&body), Ok(message.clone()));
            }
        }

        #[test]
        fn any_body_is_read_or_refused(mut body: Vec<u8>, is_known: bool, kind: u8) {
            if let (Some(version), true) = (body.first_mut(), is_known) {
                *version = VERSION;
            }
            let _ = Message::decode(&body);
            if let Some(at) = body.get_mut(13) {
                *at = kind % 14;
            }
            let _ = Message::decode(&body);
        }
    }
}
