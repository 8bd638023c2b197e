//! A connection and its rooms as a pure state machine. It is told what happens and when, and returns what to do. It
//! does no I/O and reads no clock.

use std::sync::Arc;
use std::time::Duration;

use tower_chat_rooms_protocol::close;

use crate::error::ClientError;
use crate::event::{ChatEvent, ChatState, Position};
use crate::machine::attempts::Attempts;
use crate::machine::context::Context;
use crate::machine::direct::Directs;
use crate::machine::leaving::Leaving;
use crate::machine::link::Link;
use crate::machine::outputs::Outputs;
use crate::machine::pause::Pause;
use crate::machine::random::Random;
use crate::machine::resume_tokens::ResumeTokens;
use crate::machine::room::{JoinLimits, Outcome, Room, State};
use crate::machine::rooms::Rooms;
use crate::machine::transients::Transients;
use crate::outgoing::Outgoing;
use crate::presence::Presence;

mod attempts;
mod auth;
mod backlog;
mod backoff;
mod connecting;
mod context;
mod direct;
mod enter_gate;
mod entering;
mod frames;
mod leaving;
mod link;
mod liveness;
mod members;
mod membership;
mod message_ids;
mod outputs;
mod own_members;
mod pause;
mod presence;
mod questions;
mod random;
mod refusal;
mod resume_tokens;
mod room;
mod room_log;
mod rooms;
mod sending;
mod settings;
mod tokens;
mod transients;

pub(crate) use crate::machine::outputs::Output;
pub(crate) use crate::machine::settings::{Credential, Failure, RoomSettings, Settings};

/// Time since the client was created.
type Now = Duration;

/// A room that was joined. The same room has another key when it is joined again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RoomKey(pub(crate) u64);

/// Where a client is in a room.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RoomStatus {
    pub(crate) position: Option<Position>,
    /// The client's member id.
    pub(crate) member: Option<Arc<str>>,
    pub(crate) presence: Presence,
    /// The member may not send messages.
    pub(crate) is_read_only: bool,
    /// The other members do not see the member.
    pub(crate) is_hidden: bool,
}

/// For whom the connection exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// It stays open without rooms.
    Chat,
    /// Nobody but its rooms.
    Rooms,
    /// This room, which gets the connection's events, too.
    Room(RoomKey),
}

/// `T` waits for a message's acknowledgement.
pub(crate) struct Machine<T> {
    settings: Settings,
    owner: Owner,
    attempts: Attempts,
    /// Refused tokens in a row.
    refused_tokens: u32,
    /// The only attempt or connection.
    link: Option<Link>,
    resume_tokens: ResumeTokens,
    rooms: Rooms,
    leaving: Leaving,
    directs: Directs,
    /// The server accepts frames about members from this time on.
    frames_not_before: Now,
    cx: Context<T>,
    ended: Option<ClientError>,
}

impl<T> Machine<T> {
    /// A connection that exists until the application closes it.
    pub(crate) fn new(settings: Settings, random: Box<dyn FnMut() -> u64 + Send>) -> Machine<T> {
        let (now, random) = (Now::ZERO, Random::new(random));
        let mut machine = Machine {
            owner: Owner::Chat,
            attempts: Attempts::new(&settings),
            settings,
            refused_tokens: 0,
            link: None,
            resume_tokens: ResumeTokens::default(),
            rooms: Rooms::default(),
            leaving: Leaving::default(),
            directs: Directs::default(),
            frames_not_before: Now::ZERO,
            cx: Context {
                now,
                random,
                outgoing: Outgoing::new(),
                transients: Transients::default(),
                outputs: Outputs::new(),
            },
            ended: None,
        };
        machine.connect();
        machine
    }

    /// A connection that exists for one room, and is closed with it.
    pub(crate) fn with_room(
        settings: Settings,
        random: Box<dyn FnMut() -> u64 + Send>,
        key: RoomKey,
        room: RoomSettings,
    ) -> Machine<T> {
        let mut machine = Machine::new(settings, random);
        machine.owner = Owner::Room(key);
        machine.join(Now::ZERO, key, room);
        machine
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output<T>> {
        self.cx.outputs.pop()
    }

    /// Why the client is closed for good, once it is.
    pub(crate) fn ended(&self) -> Option<&ClientError> {
        self.ended.as_ref()
    }

    pub(crate) fn room_status(&self, room: RoomKey) -> Option<RoomStatus> {
        self.rooms.get(room).map(Room::room_status)
    }

    /// When to call [`tick`](Machine::tick).
    pub(crate) fn deadline(&self) -> Option<Now> {
        let link = self.link.as_ref().and_then(Link::deadline);
        let enter = self.rooms.enter_deadline().and_then(|due| self.link.as_ref()?.enter_time(due));
        let rooms = [self.rooms.join_deadline(), enter, self.leaving.deadline(), self.cx.outgoing.deadline()];
        rooms.into_iter().chain([self.attempts.deadline(), link, self.request_deadline()]).flatten().min()
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Now) {
        self.cx.now = now;
        if self.attempts.is_due(now) {
            return self.connect();
        }
        if self.may_read() && self.link.as_ref().is_some_and(|link| link.liveness.is_over(now)) {
            return self.give_up();
        }
        for key in self.rooms.keys() {
            self.check_join(key);
        }
        if self.link.is_some() {
            self.tick_pause();
            self.tick_rooms();
            if self.link.as_mut().is_some_and(|link| link.auth.is_due(now)) {
                self.ask_for_token();
            }
        }
        self.flush();
    }

    /// Closes a room that was not entered in time.
    fn check_join(&mut self, key: RoomKey) {
        let Some(room) = self.rooms.get(key).filter(|room| room.must_be_in_by(self.cx.now)) else { return };
        let why = self.link.as_ref().map_or("there is no connection", Link::overdue);
        let error = room.gave_up(ClientError::Unreachable(why.into()));
        self.end_room(key, error);
    }

    /// Something was received, even if only a part of a frame.
    pub(crate) fn on_alive(&mut self, now: Now) {
        if let Some(link) = &mut self.link {
            link.liveness.receive(now);
        }
    }

    /// The application wants to be in a room.
    pub(crate) fn join(&mut self, now: Now, key: RoomKey, room: RoomSettings) {
        self.cx.now = now;
        let id = &room.id;
        let refused = match &self.ended {
            Some(error) => Some(error.as_closed()),
            None if self.rooms.contains(id) => {
                Some(ClientError::Config(format!("the room {id:?} was joined already; leave it first")))
            }
            None => None,
        };
        if let Some(error) = refused {
            return self.cx.outputs.push(Output::Closed(key, error));
        }
        let join_by = now.saturating_add(self.settings.first_timeout);
        let limits = JoinLimits { join_by, max_attempts: self.settings.max_attempts };
        self.rooms.add(Room::new(key, room, limits, self.attempts.backoff().clone()));
        if self.is_idle() {
            self.connect();
        }
        self.enter(key);
        self.check_pause();
    }

    /// Whether there is no connection because nobody needs one.
    fn is_idle(&self) -> bool {
        self.link.is_none() && self.attempts.deadline().is_none() && self.ended.is_none()
    }

    /// The application does not want to be in a room any more.
    pub(crate) fn leave(&mut self, now: Now, key: RoomKey) {
        self.cx.now = now;
        let error = ClientError::Closed { code: close::NORMAL, reason: "left".into() };
        if self.rooms.get(key).is_none() {
            return self.cx.outputs.push(Output::Left(key));
        }
        let is_last = self.rooms.iter().count() == 1;
        if self.owner != Owner::Chat && is_last {
            return self.close(error);
        }
        self.remove_room(key, error, Some(key));
    }

    /// The application does not need the connection any more, except for its rooms.
    pub(crate) fn release(&mut self, now: Now) {
        self.cx.now = now;
        if self.owner == Owner::Chat {
            self.owner = Owner::Rooms;
            self.close_if_unused(ClientError::Closed { code: close::NORMAL, reason: "left".into() });
        }
    }

    /// The application closes the connection.
    pub(crate) fn leave_all(&mut self, now: Now) {
        self.cx.now = now;
        self.close(ClientError::Closed { code: close::NORMAL, reason: "left".into() });
    }

    /// The application wants to be in a room again.
    pub(crate) fn enter_again(&mut self, now: Now, key: RoomKey) {
        self.cx.now = now;
        let is_outside = |room: &Room| room.state() == State::Outside && !room.is_entering();
        if self.rooms.get(key).is_some_and(is_outside) {
            self.enter(key);
        }
    }

    /// Whether the connection should be read.
    pub(crate) fn may_read(&self) -> bool {
        self.link.as_ref().is_none_or(|link| link.pause.is_none())
    }

    /// Whether the application takes no events of a room.
    pub(crate) fn is_full(&self, key: RoomKey) -> bool {
        self.rooms.get(key).is_some_and(Room::is_full)
    }

    /// The application takes no events of a room, and the queue is full.
    pub(crate) fn on_full(&mut self, now: Now, key: RoomKey) {
        self.cx.now = now;
        let is_news = self.rooms.get_mut(key).is_some_and(Room::on_full);
        if is_news
            && self.rooms.are_full()
            && let Some(link) = &mut self.link
            && let Some(welcome) = link.welcome()
        {
            link.pause = Some(Pause::begin(welcome, now));
        }
    }

    /// The application takes events of a room again.
    pub(crate) fn on_capacity(&mut self, now: Now, key: RoomKey) {
        self.cx.now = now;
        let Some(room) = self.rooms.get_mut(key) else { return };
        if room.on_capacity(&mut self.cx) {
            self.enter(key);
        }
        self.check_pause();
    }

    /// Reads on if there is a room that has to be read.
    fn check_pause(&mut self) {
        if !self.rooms.are_full()
            && let Some(link) = &mut self.link
            && link.pause.take().is_some()
        {
            link.liveness.restart(self.cx.now);
        }
    }

    /// Does what is due while nothing is read.
    fn tick_pause(&mut self) {
        let now = self.cx.now;
        let Some(link) = &mut self.link else { return };
        let Some(pause) = &mut link.pause else { return };
        if pause.is_pong_due(now) {
            self.cx.outputs.push(Output::Pong);
        }
        if pause.is_over(now) {
            tracing::debug!("the application takes no events; dropping the frames of its rooms");
            link.pause = None;
            link.liveness.restart(now);
        }
    }

    /// Does what follows from something that has happened in a room.
    fn conclude(&mut self, key: RoomKey, outcome: Outcome) {
        match outcome {
            Outcome::Nothing => self.flush(),
            Outcome::IsBroken => self.reconnect("frames of the room are missing"),
            Outcome::IsOver(error) => self.end_room(key, error),
        }
    }

    /// Emits an event of the connection that can't be recovered.
    fn emit_unrecoverable(&mut self, event: ChatEvent) {
        match self.owner {
            Owner::Chat => self.cx.outputs.push(Output::EmitChat(event)),
            Owner::Rooms => {}
            Owner::Room(key) => {
                if let (Some(room), Some(event)) = (self.rooms.get_mut(key), event.of_room()) {
                    room.emit_unrecoverable(event, &mut self.cx);
                }
            }
        }
    }

    fn emit_error(&mut self, error: ClientError) {
        self.emit_unrecoverable(ChatEvent::Error(error));
    }

    fn emit_state(&mut self, state: ChatState) {
        if self.owner == Owner::Chat {
            self.cx.outputs.push(Output::EmitChat(ChatEvent::State(state)));
        }
    }
}

#[cfg(test)]
mod hostile_server;
#[cfg(test)]
mod model;
#[cfg(test)]
mod presence_model;
#[cfg(test)]
mod tests;
