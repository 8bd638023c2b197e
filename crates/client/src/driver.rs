//! The client's task: connects the state machine with the clock, the socket and the application.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep};

use crate::dial::{Boxed, Connector, Opened};
use crate::error::ClientError;
use crate::event::{ClientEvent, ClientState};
use crate::events::EventSender;
use crate::machine::{Failure, Machine, Output, Settings};
use crate::socket::{Received, Socket};

/// Resolves a message's acknowledgement.
type Ack = oneshot::Sender<Result<u64, ClientError>>;

/// A command from the application.
pub(crate) enum Command {
    /// Publish an object, given without its closing brace.
    Publish {
        body: String,
        ack: Ack,
    },
    /// Enter again.
    Enter,
    Leave {
        done: oneshot::Sender<()>,
    },
}

pub(crate) struct Driver {
    machine: Machine<Ack>,
    start: Instant,
    timer: Pin<Box<Sleep>>,
    connector: Arc<Connector>,
    commands: mpsc::Receiver<Command>,
    events: EventSender,
    /// Events dropped because the application takes none.
    dropped: u64,
    /// Resolved once, with the result of entering for the first time.
    entered: Option<oneshot::Sender<Result<(), ClientError>>>,
    leaving: Vec<oneshot::Sender<()>>,
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
    /// The application has dropped the client.
    Dropped,
    /// The event queue has capacity again.
    Capacity,
    Attempted(Result<Box<Opened>, Failure>),
    Received(Received),
    Token(Result<String, String>),
    Command(Command),
    Tick,
}

/// Events that may be queued beyond the queue's capacity, as when connections are lost and made.
const MAX_EXCESS: usize = 64;

/// How far ahead the timer is set if there is no deadline.
const IDLE: Duration = Duration::from_secs(24 * 60 * 60);

impl Driver {
    pub(crate) fn new(
        settings: Settings,
        connector: Connector,
        commands: mpsc::Receiver<Command>,
        events: EventSender,
        entered: oneshot::Sender<Result<(), ClientError>>,
    ) -> Driver {
        let start = Instant::now();
        Driver {
            machine: Machine::new(settings, Box::new(random)),
            start,
            timer: Box::pin(tokio::time::sleep_until(start)),
            connector: Arc::new(connector),
            commands,
            events,
            dropped: 0,
            entered: Some(entered),
            leaving: Vec::new(),
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
        for done in self.leaving {
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
                Output::Pong => self.socket.iter_mut().for_each(Socket::pong),
                Output::Close(code) => {
                    self.attempt = None;
                    self.finish(Some(code));
                }
                Output::Emit(event) => {
                    if event == ClientEvent::State(ClientState::Online) {
                        self.entered.take().map(|entered| entered.send(Ok(())));
                    }
                    self.emit(event);
                }
                // Fails if the application has dropped its future.
                Output::Resolve(ack, result) => drop(ack.send(result)),
            }
        }
        if let Some(error) = self.machine.ended() {
            self.entered.take().map(|entered| entered.send(Err(error.clone())));
        }
    }

    fn emit(&mut self, event: ClientEvent) {
        let is_last = matches!(event, ClientEvent::State(ClientState::Closed { .. }));
        if self.events.excess() >= MAX_EXCESS && !is_last {
            self.dropped += 1;
            return;
        }
        if self.dropped > 0 {
            self.events.push(ClientEvent::Overflow { lost: std::mem::take(&mut self.dropped) });
        }
        self.events.push(event);
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
            Input::Dropped => self.machine.leave(),
            Input::Command(Command::Leave { done }) => {
                self.leaving.push(done);
                self.machine.leave();
            }
            Input::Command(Command::Publish { body, ack }) => self.machine.publish(now, &body, ack),
            Input::Command(Command::Enter) => self.machine.enter_again(now),
            Input::Capacity => self.machine.on_capacity(now),
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

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        if self.events.poll_closed(cx).is_ready() {
            return Poll::Ready(Input::Dropped);
        }
        if self.events.is_full() {
            self.machine.on_full(self.now());
        } else if self.machine.is_paused() && self.events.poll_capacity(cx).is_ready() {
            return Poll::Ready(Input::Capacity);
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
