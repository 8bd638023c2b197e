//! What the benches measure of sessions.

use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::task::yield_now;

use crate::admission::Admission;
use crate::config::{Config, History, Keep, Recovery, SlowConsumer};
use crate::context;
use crate::delivery::bench_cases::{deliver as deliver_to, live_room};
use crate::delivery::{Handle, ReplayRequest, Rooms};
use crate::hooks::policy::Access;
use crate::ids::{ConnectionId, MaxLen, Name, RoomId};
use crate::protocol::bench_cases::{MESSAGE, masked, parse_message};
use crate::protocol::close::LeaveReason;
use crate::protocol::position::Position;
use crate::protocol::presence::ProfileKeys;
use crate::protocol::resume::ResumeToken;
use crate::protocol::subprotocol::Subprotocol;
use crate::session::session::Session;
use crate::session::{Attachment, EnterCommand, FromStore, MessageCommand, Opening, Sessions};
use crate::socket::bench_cases::socket;
use crate::socket::{Answer, Inbox, Turn};
use crate::tasks::Tasks;

/// A message is read from the socket, tungstenite included.
pub fn read() -> impl FnMut() {
    let session = session(&context(Config::default()), 0, &masked(MESSAGE));
    let (mut cx, mut inbox) = (Context::from_waker(Waker::noop()), Inbox::default());
    move || {
        let turn = session.with_socket_of(0, |socket| socket.poll_turn(&mut cx, &mut inbox));
        assert_eq!(turn, Ok(Poll::Ready(Turn::Messages)));
        assert_eq!(inbox.texts.pop_front().map(|text| text.len()), Some(MESSAGE.len()));
        black_box(inbox.sample());
    }
}

/// A parsed message goes to the sockets of 100 members, which accept all of it.
pub fn deliver() -> impl FnMut() {
    let context = context(Config::default());
    let sessions: Vec<_> = (0..100).map(|id| session(&context, id, b"")).collect();
    let room = live_room(sessions.iter().map(|session| session.clone() as Handle));
    for (at, session) in sessions.iter().enumerate() {
        let answer = Answer {
            before: Vec::new(),
            frame: None,
            replay: None,
            start: at as u64,
            is_new: false,
            slow: Some(SlowConsumer::Close),
        };
        session.with_socket(|socket| socket.answer_enter(&room, answer));
    }
    deliver_to(room)
}

/// A session is detached from its connection and resumed by another, which gets a replay of 20 frames.
///
/// It looks up sessions by hashes with new keys each time, so that the average over many runs is about the same
/// each time.
pub fn resume() -> impl FnMut() {
    const FRAMES: usize = 20;
    let recovery = Recovery::default().resume_window(Duration::from_secs(60)).history(History::last(FRAMES));
    let context = context(Config { recovery, ..Config::default() });
    let tasks = Arc::new(Tasks::default());
    let rooms = Arc::new(Rooms::new(
        &context.config,
        context.clock,
        &context.counters,
        tasks.clone(),
        None,
        None,
        None,
    ));
    let admission = Arc::new(Admission::new(context.clone(), tasks.clone()));
    let sessions = Sessions::new(context.clone(), rooms.clone(), admission, None, ConnectionId(0), tasks);
    let connect = move |token| {
        let socket = socket(&context, Subprotocol::V1, b"");
        let (id, subprotocol, token) = (sessions.table().new_id(), Subprotocol::V1, Some(token));
        let opening = Opening { id, subprotocol, socket, token, peer: None, user: None };
        Attachment::begin(sessions.clone(), opening)
    };

    let mut token = new_token();
    let attachment = connect(token);
    let body = parse_message(MESSAGE).body;
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let (name, room) = (Name::parse("Ann", MaxLen::ANY).expect("a good name"), RoomId::from("lobby"));
        let slow = SlowConsumer::Close;
        let command = EnterCommand {
            name: &name,
            room: &room,
            body: &body,
            replay_request: None,
            from_store: FromStore::default(),
            slow,
            presence: None,
            access: Access::member(),
            profile: ProfileKeys::default(),
        };
        let entered = attachment.enter(&command).expect("it is attached");
        entered.expect("the room takes everybody");
        for _ in 0..FRAMES {
            let message = MessageCommand {
                room: None,
                event: "message",
                body: &body,
                cid: None,
                text: MESSAGE,
                replaced: None,
                keep: Keep::First,
                received: None,
            };
            let published = attachment.publish(&message).expect("it is attached");
            assert!(published.is_some_and(|published| published.is_ok()));
            // Each frame is a batch of its own.
            yield_now().await;
            yield_now().await;
        }
    });
    let membership = attachment.active_membership(None).expect("it has entered");
    let handle: Handle = attachment.session().clone();
    let now = rooms.enter_again(&membership.room, &handle, None);
    let since = ReplayRequest::Since(Position { epoch: now.epoch, seq: now.seq - FRAMES as u64 });
    let replay = rooms.enter_again(&membership.room, &handle, Some(since)).replay;
    assert_eq!(replay.map(|replay| (replay.is_complete, replay.chunks.len())), Some((true, FRAMES)));

    let mut attached = Some(attachment);
    move || {
        if let Some(attachment) = attached.take() {
            // It waits for nothing if the connection is lost.
            let end = pin!(attachment.finish(LeaveReason::Lost, Duration::ZERO, Duration::ZERO));
            assert!(end.poll(&mut Context::from_waker(Waker::noop())).is_ready());
        }
        let old = std::mem::replace(&mut token, new_token());
        let mut attachment = connect(token);
        assert_eq!(attachment.resume(&[old]), Ok(true));
        assert_eq!(
            attachment.enter_again(
                membership.room.id(),
                Some(since),
                FromStore::default(),
                SlowConsumer::Close
            ),
            Ok(())
        );
        attached = Some(attachment);
    }
}

fn context(config: Config) -> Arc<context::Context> {
    Arc::new(context::Context::new(config))
}

fn session(context: &Arc<context::Context>, id: u64, gives: &[u8]) -> Arc<Session> {
    let socket = socket(context, Subprotocol::Plain, gives);
    Arc::new(Session::new(ConnectionId(id), Subprotocol::Plain, Some(socket), None, None, None))
}

fn new_token() -> ResumeToken {
    ResumeToken::new().expect("the system has randomness")
}
