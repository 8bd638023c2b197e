//! What other nodes ask this one to do.

use std::sync::Arc;

use bytes::Bytes;

use crate::broker::commands::{Answer, Command, Message};
use crate::engine::Engine;
use crate::engine::host_calls::MemberChange;
use crate::engine::nodes::Nodes;
use crate::hooks::policy::Access;
use crate::ids::{MaxLen, Name};
use crate::protocol::direct::DirectFrame;
use crate::protocol::host_frame::HostFrame;

impl Engine {
    /// Does what another node asks for, and answers.
    pub(super) fn obey(self: &Arc<Engine>, body: Bytes) {
        let Some(nodes) = self.nodes() else { return };
        let message = match Message::decode(&body) {
            // A call for all nodes comes back to its own.
            Ok(message) if message.node == nodes.own() => return,
            Ok(message) => message,
            Err(_) => {
                tracing::error!("a call of another node cannot be read; upgrade this node");
                return;
            }
        };
        let Message { node, question, command } = message;
        let answer = match command {
            Command::Answer(answer) => return nodes.answered(node, question, answer),
            Command::SendTo { connection, object } => {
                self.send_to(connection, &HostFrame::new(object)).into()
            }
            Command::SendToUser { user, object } => {
                self.sessions.send_direct(user, &Arc::new(DirectFrame::of_host(object))).into()
            }
            Command::SendDirect { user, frame, sender, cid } => {
                let frame = frame.map(|text| Arc::new(DirectFrame::of_text(text)));
                let reached = self.receive_direct(sender, user, cid, frame.as_ref());
                Answer { number: reached, ..Answer::default() }
            }
            Command::RoomsOf(user) => {
                let texts = self.rooms_of(user).into_iter().map(|room| room.as_str().to_owned()).collect();
                Answer { texts, ..Answer::default() }
            }
            Command::SetInfo { room, connection, info } => {
                self.set_info(room, connection, info.map(Into::into)).into()
            }
            Command::SetAccess { room, connection, info, is_read_only, is_hidden } => {
                let access = Access::of(info.map(Into::into), is_read_only, is_hidden);
                self.set_access(room, connection, &access).into()
            }
            Command::Kick(_)
            | Command::KickUser(_)
            | Command::CloseRoom(_)
            | Command::Broadcast { .. }
            | Command::RemoveAnonymous { .. } => {
                let (engine, nodes, body) = (self.clone(), nodes.clone(), body.clone());
                return self.tasks.spawn(async move { engine.obey_later(&nodes, &body).await });
            }
        };
        reply(nodes, node, question, answer);
    }

    /// Has the other nodes remove something, and this one, too, from the sessions that are arriving. The caller does it
    /// here.
    pub(crate) fn remove_elsewhere(self: &Arc<Engine>, command: Command<'_>) {
        let Some(nodes) = self.nodes() else { return };
        nodes.tell_others(command.clone());
        if self.sessions.has_arrivals() {
            let (engine, nodes, body) = (self.clone(), nodes.clone(), nodes.message(0, command));
            self.tasks.spawn_for_host(async move { engine.obey_later(&nodes, &body).await });
        }
    }

    /// Does what takes longer, or calls the host's callbacks, which must not delay the events of rooms.
    async fn obey_later(&self, nodes: &Nodes, body: &[u8]) {
        let Ok(Message { node, question, command }) = Message::decode(body) else { return };
        if !matches!(command, Command::Broadcast { .. }) {
            // Its old node does not have the session any more.
            self.sessions.until_arrived().await;
        }
        let answer = match command {
            Command::Kick(id) => self.kick(id).into(),
            Command::KickUser(user) => self.kick_user(user).into(),
            Command::CloseRoom(room) => self.close_room(room).removed.into(),
            Command::Broadcast { object } => self.broadcast(&HostFrame::new(object)).await.into(),
            Command::RemoveAnonymous { holder, room, name } => match Name::parse(name, MaxLen::ANY) {
                Ok(name) => self.remove_anonymous_here(holder, room, &name).into(),
                Err(_) => false.into(),
            },
            _ => return,
        };
        reply(nodes, node, question, answer);
    }
}

fn reply(nodes: &Nodes, node: u32, question: u64, answer: Answer) {
    if question != 0 {
        nodes.answer(node, question, answer);
    }
}

impl From<MemberChange> for Answer {
    fn from(change: MemberChange) -> Answer {
        (change as usize).into()
    }
}
