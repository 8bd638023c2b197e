//! The task of a client: it brings the state machine its time, its connection and its orders.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep};

use crate::dial::{Boxed, Opened, Route};
use crate::error::ClientError;
use crate::event::{ClientEvent, ClientState};
use crate::machine::{Failure, Machine, Output, Plan};
use crate::queue::Teller;
use crate::wire::{Received, Wire};

/// An order of the application.
pub(crate) enum Command {
    /// Say an object, which comes without its closing brace.
    Send {
        body: String,
        answer: oneshot::Sender<Result<u64, ClientError>>,
    },
    Leave {
        done: oneshot::Sender<()>,
    },
}

pub(crate) struct Driver {
    machine: Machine<oneshot::Sender<Result<u64, ClientError>>>,
    begun: Instant,
    timer: Pin<Box<Sleep>>,
    route: Arc<Route>,
    commands: mpsc::Receiver<Command>,
    events: Teller,
    /// Events that were dropped because nobody takes any.
    dropped: u64,
    /// Told once whether the client has come into its room for the first time.
    first: Option<oneshot::Sender<Result<(), ClientError>>>,
    leaving: Vec<oneshot::Sender<()>>,
    attempt: Option<Boxed<'static, Result<Box<Opened>, Failure>>>,
    wire: Option<Wire>,
    /// An old connection in its closing handshake.
    finishing: Option<Boxed<'static, ()>>,
    /// Takes turns between the connection and the orders, so that neither can starve the other.
    orders_first: bool,
}

/// Something has happened.
enum Input {
    /// Nobody listens to the events any more.
    Abandoned,
    /// There is room for events again.
    Room,
    Attempted(Result<Box<Opened>, Failure>),
    Received(Received),
    Command(Command),
    Tick,
}

/// Events beyond the queue's bound, which come of connections that are lost and made meanwhile.
const MAX_EXCESS: usize = 64;

/// How long a timer may be set that has nothing to wait for.
const LONG: Duration = Duration::from_secs(24 * 60 * 60);

impl Driver {
    pub(crate) fn new(
        plan: Plan,
        route: Route,
        commands: mpsc::Receiver<Command>,
        events: Teller,
        first: oneshot::Sender<Result<(), ClientError>>,
    ) -> Driver {
        let begun = Instant::now();
        Driver {
            machine: Machine::new(plan, Box::new(random)),
            begun,
            timer: Box::pin(tokio::time::sleep_until(begun)),
            route: Arc::new(route),
            commands,
            events,
            dropped: 0,
            first: Some(first),
            leaving: Vec::new(),
            attempt: None,
            wire: None,
            finishing: None,
            orders_first: false,
        }
    }

    /// Until the client is closed for good.
    pub(crate) async fn run(mut self) {
        loop {
            self.perform();
            if self.machine.ending().is_some() {
                break;
            }
            let input = poll_fn(|cx| self.poll(cx)).await;
            self.take(input);
        }
        if let Some(finishing) = self.finishing.take() {
            finishing.0.await;
        }
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            self.take(Input::Command(command));
            self.perform();
        }
        for done in self.leaving {
            let _ = done.send(());
        }
    }

    /// Does what the machine wants done.
    fn perform(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Connect => {
                    // At most one is ever under way: the machine has closed what was before.
                    let route = self.route.clone();
                    self.attempt = Some(Boxed(Box::pin(async move { route.connect().await })));
                }
                Output::Send(text) => self.wire.iter_mut().for_each(|wire| wire.send(text.clone())),
                Output::Pong => self.wire.iter_mut().for_each(Wire::pong),
                Output::Close(code) => {
                    self.attempt = None;
                    self.retire(Some(code));
                }
                Output::Tell(event) => {
                    if event == ClientEvent::State(ClientState::Online) {
                        self.first.take().map(|first| first.send(Ok(())));
                    }
                    self.tell(event);
                }
                // Who doesn't wait any more needs no answer.
                Output::Settle(answer, result) => drop(answer.send(result)),
            }
        }
        if let Some(ending) = self.machine.ending() {
            self.first.take().map(|first| first.send(Err(ending.clone())));
        }
    }

    fn tell(&mut self, event: ClientEvent) {
        let is_last = matches!(event, ClientEvent::State(ClientState::Closed) | ClientEvent::Closed { .. });
        if self.events.excess() >= MAX_EXCESS && !is_last {
            self.dropped += 1;
            return;
        }
        if self.dropped > 0 {
            self.events.push(ClientEvent::Overflow { lost: std::mem::take(&mut self.dropped) });
        }
        self.events.push(event);
    }

    fn retire(&mut self, code: Option<u16>) {
        if let Some(wire) = self.wire.take() {
            self.finishing = Some(Boxed(Box::pin(wire.finish(code))));
        }
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    fn take(&mut self, input: Input) {
        let now = self.now();
        match input {
            Input::Abandoned | Input::Command(Command::Leave { .. }) => {
                if let Input::Command(Command::Leave { done }) = input {
                    self.leaving.push(done);
                }
                self.machine.leave();
            }
            Input::Room => self.machine.on_room(now),
            Input::Attempted(Ok(opened)) => {
                self.wire = Some(opened.wire);
                self.machine.on_open(now, opened.token.as_deref());
            }
            Input::Attempted(Err(failure)) => self.machine.on_failed(now, failure),
            Input::Received(Received::Text(text)) => self.machine.on_text(now, text.as_str()),
            Input::Received(Received::Alive) => self.machine.on_alive(now),
            Input::Received(Received::Closed { code, reason }) => {
                self.retire(None);
                self.machine.on_closed(now, code, &reason);
            }
            Input::Command(Command::Send { body, answer }) => self.machine.send(&body, answer),
            Input::Tick => self.machine.tick(now),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        if self.events.poll_gone(cx).is_ready() {
            return Poll::Ready(Input::Abandoned);
        }
        if self.events.is_full() {
            self.machine.on_full(self.now());
        } else if self.machine.is_paused() && self.events.poll_room(cx).is_ready() {
            return Poll::Ready(Input::Room);
        }
        if let Some(finishing) = &mut self.finishing
            && finishing.0.as_mut().poll(cx).is_ready()
        {
            self.finishing = None;
        }
        if let Poll::Ready(attempted) = self.poll_attempt(cx) {
            return Poll::Ready(Input::Attempted(attempted));
        }
        self.orders_first = !self.orders_first;
        for orders in [self.orders_first, !self.orders_first] {
            let input = if orders { self.poll_command(cx) } else { self.poll_wire(cx) };
            if input.is_ready() {
                return input;
            }
        }
        self.poll_timer(cx)
    }

    fn poll_attempt(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<Opened>, Failure>> {
        let Some(attempt) = &mut self.attempt else { return Poll::Pending };
        let attempted = attempt.0.as_mut().poll(cx);
        if attempted.is_ready() {
            self.attempt = None;
        }
        attempted
    }

    fn poll_wire(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        match &mut self.wire {
            Some(wire) => wire.poll(cx, self.machine.may_read()).map(Input::Received),
            None => Poll::Pending,
        }
    }

    fn poll_command(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        match self.commands.poll_recv(cx) {
            Poll::Ready(Some(command)) => Poll::Ready(Input::Command(command)),
            // Nobody can give orders any more; the application still listens.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        let after = self.machine.deadline().unwrap_or(LONG).min(self.now().saturating_add(LONG));
        let at = self.begun + after;
        if self.timer.deadline() != at {
            self.timer.as_mut().reset(at);
        }
        self.timer.as_mut().poll(cx).map(|()| Input::Tick)
    }
}

/// Random enough for waits, and hard enough to guess for cids.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    getrandom::u64().unwrap_or_else(|_| RandomState::new().build_hasher().finish())
}
