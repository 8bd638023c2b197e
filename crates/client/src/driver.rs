//! The client's task: connects the state machine with the clock, the socket and the application.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep};

use crate::commands::{Ack, Command, Join, Outlet};
use crate::dial::{Boxed, Connector, Opened};
use crate::error::ClientError;
use crate::event::{ChatEvent, ChatState, ClientEvent, ClientState};
use crate::events::EventSender;
use crate::machine::{Failure, Machine, Output, RoomKey, Settings};
use crate::socket::{Received, Socket};

pub(crate) struct Driver {
    machine: Machine<Ack>,
    start: Instant,
    timer: Pin<Box<Sleep>>,
    connector: Arc<Connector>,
    commands: mpsc::UnboundedReceiver<Command>,
    /// The connection's own events; `None` if the application has dropped the chat, or has only a room.
    chat: Option<EventSender<ChatEvent>>,
    /// Resolved once, with the result of connecting for the first time.
    connected: Option<oneshot::Sender<Result<(), ClientError>>>,
    rooms: BTreeMap<RoomKey, Outlet>,
    /// Who waits for a room to be left.
    leaving: Vec<(RoomKey, oneshot::Sender<()>)>,
    /// Who waits for the end.
    closing: Vec<oneshot::Sender<()>>,
    attempt: Option<Boxed<'static, Result<Box<Opened>, Failure>>>,
    socket: Option<Socket>,
    /// The application's token function, called for the current connection.
    token: Option<Boxed<'static, Result<String, String>>>,
    /// The closing handshake of an earlier connection.
    finishing: Option<Boxed<'static, ()>>,
    /// Alternates, so that neither the socket nor the commands can starve the other.
    commands_first: bool,
}

enum Input {
    /// The application has dropped the chat.
    ChatDropped,
    /// The application has dropped the client of a room.
    Dropped(RoomKey),
    /// The event queue of a room has capacity again.
    Capacity(RoomKey),
    Attempted(Result<Box<Opened>, Failure>),
    Received(Received),
    Token(Result<String, String>),
    Command(Command),
    Tick,
}

/// How far ahead the timer is set if there is no deadline.
const IDLE: Duration = Duration::from_secs(24 * 60 * 60);

impl Driver {
    /// A connection for any number of rooms.
    pub(crate) fn new(
        settings: Settings,
        connector: Connector,
        commands: mpsc::UnboundedReceiver<Command>,
        chat: EventSender<ChatEvent>,
        connected: oneshot::Sender<Result<(), ClientError>>,
    ) -> Driver {
        let machine = Machine::new(settings, Box::new(random));
        let driver = Driver::of(machine, connector, commands);
        Driver { chat: Some(chat), connected: Some(connected), ..driver }
    }

    /// A connection for one room.
    pub(crate) fn with_room(
        settings: Settings,
        connector: Connector,
        commands: mpsc::UnboundedReceiver<Command>,
        join: Join,
    ) -> Driver {
        let Join { key, room, outlet } = join;
        let machine = Machine::with_room(settings, Box::new(random), key, room);
        let driver = Driver::of(machine, connector, commands);
        Driver { rooms: BTreeMap::from([(key, outlet)]), ..driver }
    }

    fn of(machine: Machine<Ack>, connector: Connector, commands: mpsc::UnboundedReceiver<Command>) -> Driver {
        let start = Instant::now();
        Driver {
            machine,
            start,
            timer: Box::pin(tokio::time::sleep_until(start)),
            connector: Arc::new(connector),
            commands,
            chat: None,
            connected: None,
            rooms: BTreeMap::new(),
            leaving: Vec::new(),
            closing: Vec::new(),
            attempt: None,
            socket: None,
            token: None,
            finishing: None,
            commands_first: false,
        }
    }

    /// Runs until the client is closed for good.
    pub(crate) async fn run(mut self) {
        loop {
            self.perform();
            if self.machine.ended().is_some() {
                break;
            }
            let input = poll_fn(|cx| self.poll(cx)).await;
            self.handle(input);
        }
        if let Some(finishing) = self.finishing.take() {
            finishing.0.await;
        }
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            self.handle(Input::Command(command));
            self.perform();
        }
        for done in self.leaving.into_iter().map(|(_, done)| done).chain(self.closing) {
            let _ = done.send(());
        }
    }

    /// Performs the machine's outputs.
    fn perform(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Connect => {
                    // The machine has closed any earlier connection.
                    let connector = self.connector.clone();
                    self.attempt = Some(Boxed(Box::pin(async move { connector.connect().await })));
                }
                Output::AskToken => {
                    let connector = self.connector.clone();
                    self.token = Some(Boxed(Box::pin(async move { connector.renew_token().await })));
                }
                Output::Send(text) => self.socket.iter_mut().for_each(|socket| socket.send(text.clone())),
                Output::SendTransient(text) => {
                    self.socket.iter_mut().for_each(|socket| socket.send_transient(text.clone()));
                }
                Output::Pong => self.socket.iter_mut().for_each(Socket::pong),
                Output::Close(code) => {
                    self.attempt = None;
                    self.finish(Some(code));
                }
                Output::Emit(room, event) => self.emit(room, event),
                Output::Presence(room) => self.emit_presence(room),
                Output::EmitChat(event) => {
                    if event == ChatEvent::State(ChatState::Online) {
                        self.connected.take().map(|connected| connected.send(Ok(())));
                    }
                    self.chat.iter_mut().for_each(|chat| chat.push(event.clone()));
                }
                Output::Closed(room, error) => {
                    let entered = self.rooms.remove(&room).and_then(|outlet| outlet.entered);
                    entered.map(|entered| entered.send(Err(error)));
                }
                Output::Left(room) => {
                    for (_, done) in self.leaving.extract_if(.., |(left, _)| *left == room) {
                        let _ = done.send(());
                    }
                }
                Output::Resolve(ack, result) => ack.resolve(result),
                Output::ResolveHistory(ack, page) => ack.resolve_history(page),
            }
        }
        if let Some(error) = self.machine.ended() {
            self.connected.take().map(|connected| connected.send(Err(error.clone())));
        }
    }

    fn emit(&mut self, room: RoomKey, event: ClientEvent) {
        let Some(outlet) = self.rooms.get_mut(&room) else { return };
        let room_status = self.machine.room_status(room);
        let transient_events = self.machine.transient_events().clone();
        let state = if let ClientEvent::State(state) = &event { Some(state.clone()) } else { None };
        if state == Some(ClientState::Online) {
            outlet.entered.take().map(|entered| entered.send(Ok(())));
        }
        outlet.status.send_modify(|status| {
            match room_status {
                Some(room_status) => status.room_status = room_status,
                // The room is closed for good.
                None => status.room_status.presence.set_incomplete(),
            }
            status.transient_events = transient_events;
            status.state = state.or(status.state.take());
        });
        outlet.events.push(event);
    }

    fn emit_presence(&mut self, room: RoomKey) {
        let Some(outlet) = self.rooms.get_mut(&room) else { return };
        let Some(room_status) = self.machine.room_status(room) else { return };
        let presence = room_status.presence.clone();
        outlet.status.send_modify(|status| status.room_status = room_status);
        outlet.events.push_latest(ClientEvent::Presence(presence));
    }

    fn finish(&mut self, code: Option<u16>) {
        self.token = None;
        if let Some(socket) = self.socket.take() {
            self.finishing = Some(Boxed(Box::pin(socket.finish(code))));
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn handle(&mut self, input: Input) {
        let now = self.now();
        match input {
            Input::ChatDropped => {
                self.chat = None;
                self.machine.release(now);
            }
            Input::Dropped(room) => self.machine.leave(now, room),
            Input::Command(command) => self.obey(now, command),
            Input::Capacity(room) => self.machine.on_capacity(now, room),
            Input::Attempted(Ok(opened)) => {
                self.socket = Some(opened.socket);
                self.machine.on_open(now, opened.token.as_deref());
            }
            Input::Attempted(Err(failure)) => self.machine.on_failed(now, failure),
            Input::Received(Received::Text(text)) => self.machine.on_text(now, text.as_str()),
            Input::Token(token) => self.machine.on_token(now, token),
            Input::Received(Received::Binary) => self.machine.on_binary(now),
            Input::Received(Received::Alive) => self.machine.on_alive(now),
            Input::Received(Received::Closed { code, reason }) => {
                self.finish(None);
                self.machine.on_closed(now, code, &reason);
            }
            Input::Tick => self.machine.tick(now),
        }
    }

    fn obey(&mut self, now: Duration, command: Command) {
        match command {
            Command::Join(join) => {
                let Join { key, room, outlet } = *join;
                self.rooms.insert(key, outlet);
                self.machine.join(now, key, room);
            }
            Command::Publish { room, body, ack, permit } => {
                drop(permit);
                self.machine.publish(now, room, &body, ack);
            }
            Command::ReadHistory { room, keys, ack, permit } => {
                drop(permit);
                self.machine.read_history(now, room, keys, ack);
            }
            Command::SendToUser { user, body, ack, permit } => {
                drop(permit);
                self.machine.send_to_user(now, &user, &body, ack);
            }
            Command::SetState(room) => {
                if let Some(state) = self.rooms.get(&room).and_then(|outlet| outlet.state.take()) {
                    self.machine.set_state(now, room, state);
                }
            }
            Command::SendTransient { room, body, permit } => {
                drop(permit);
                self.machine.send_transient(now, room, &body);
            }
            Command::Enter(room) => self.machine.enter_again(now, room),
            Command::Authenticate => self.machine.authenticate(now),
            Command::Leave { room, done } => {
                self.leaving.push((room, done));
                self.machine.leave(now, room);
            }
            Command::Close { done } => {
                self.closing.push(done);
                self.machine.leave_all(now);
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        if self.chat.as_ref().is_some_and(|chat| chat.poll_closed(cx).is_ready()) {
            return Poll::Ready(Input::ChatDropped);
        }
        for (room, Outlet { events, .. }) in &self.rooms {
            if events.poll_closed(cx).is_ready() {
                return Poll::Ready(Input::Dropped(*room));
            }
            if events.is_full() {
                self.machine.on_full(self.start.elapsed(), *room);
            } else if self.machine.is_full(*room) && events.poll_capacity(cx).is_ready() {
                return Poll::Ready(Input::Capacity(*room));
            }
        }
        let _ = poll_once(&mut self.finishing, cx);
        if let Poll::Ready(attempted) = poll_once(&mut self.attempt, cx) {
            return Poll::Ready(Input::Attempted(attempted));
        }
        if let Poll::Ready(token) = poll_once(&mut self.token, cx) {
            return Poll::Ready(Input::Token(token));
        }
        self.commands_first = !self.commands_first;
        for commands in [self.commands_first, !self.commands_first] {
            let input = if commands { self.poll_command(cx) } else { self.poll_socket(cx) };
            if input.is_ready() {
                return input;
            }
        }
        self.poll_timer(cx)
    }

    fn poll_socket(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        match &mut self.socket {
            Some(socket) => socket.poll(cx, self.machine.may_read()).map(Input::Received),
            None => Poll::Pending,
        }
    }

    fn poll_command(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        match self.commands.poll_recv(cx) {
            Poll::Ready(Some(command)) => Poll::Ready(Input::Command(command)),
            // All senders are dropped; the application may still receive.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        let after = self.machine.deadline().unwrap_or(IDLE).min(self.now().saturating_add(IDLE));
        let at = self.start + after;
        if self.timer.deadline() != at {
            self.timer.as_mut().reset(at);
        }
        self.timer.as_mut().poll(cx).map(|()| Input::Tick)
    }
}

/// Polls a future, if there is one, and drops it once it is ready.
fn poll_once<T>(future: &mut Option<Boxed<'static, T>>, cx: &mut Context<'_>) -> Poll<T> {
    let Some(pending) = future else { return Poll::Pending };
    let polled = pending.0.as_mut().poll(cx);
    if polled.is_ready() {
        *future = None;
    }
    polled
}

/// For backoff and message ids, which must be unguessable.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    getrandom::u64().unwrap_or_else(|_| RandomState::new().build_hasher().finish())
}
