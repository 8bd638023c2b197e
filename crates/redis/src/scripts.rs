//! The scripts, with what goes in. What comes out is read in `reply.rs`.

use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError, Script, ToRedisArgs, cmd};

use crate::batches::BatchOutcome;
use crate::codec;
use crate::keys::Keys;
use crate::link::{Command, Link};
use crate::member::{NewMember, Profile};
use crate::position::Position;
use crate::random;
use crate::settings::{Checked, LogLimits, LogNeeds, LogSettings};
use crate::stamp::Stamp;
use crate::sync::{Mutex, lock};

/// More members than a room can have, as a number that Lua can hold.
pub(crate) const NO_LIMIT: u64 = 1 << 52;
const MAX_MESSAGE_IDS: u32 = 10_000;
/// Events that one read of a log returns.
pub(crate) const PAGE: usize = 256;

macro_rules! room_script {
    ($file:literal) => {
        Script::new(concat!(include_str!("lua/room.lua"), include_str!($file)))
    };
}

macro_rules! member_script {
    ($file:literal) => {
        Script::new(concat!(
            include_str!("lua/room.lua"),
            include_str!("lua/members.lua"),
            include_str!($file)
        ))
    };
}

macro_rules! batch_script {
    ($file:literal) => {
        Script::new(concat!(
            include_str!("lua/room.lua"),
            include_str!("lua/batches.lua"),
            include_str!($file)
        ))
    };
}

macro_rules! session_script {
    ($file:literal) => {
        Script::new(concat!(include_str!("lua/sessions.lua"), include_str!($file)))
    };
}

/// The function for programs in other languages. It does what `publish.lua` does.
const FUNCTION: &str = concat!(
    include_str!("lua/function_begin.lua"),
    include_str!("lua/room.lua"),
    include_str!("lua/publish.lua"),
    include_str!("lua/function_end.lua"),
);

/// The command that loads the function for programs in other languages.
pub(crate) fn load_function() -> Cmd {
    cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(FUNCTION).take()
}

/// The scripts.
#[derive(Debug)]
pub(crate) struct Scripts {
    keys: Keys,
    log_settings: LogSettings,
    log_limits: Mutex<LogLimits>,
    enter: Script,
    leave: Script,
    publish: Script,
    begin_batch: Script,
    finish_batch: Script,
    place: Script,
    transient: Script,
    profile: Script,
    owner: Script,
    read: Script,
    history: Script,
    roster: Script,
    reap: Script,
    pub(crate) renew: Script,
    pub(crate) fence: Script,
    pub(crate) forget: Script,
    pub(crate) put_session: Script,
    pub(crate) close_session: Script,
    pub(crate) take_over: Script,
    pub(crate) begin_user: Script,
    pub(crate) end_user: Script,
    pub(crate) reap_users: Script,
    pub(crate) user: Script,
}

/// How a member leaves.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Leave<'a> {
    /// The others get a frame with this body.
    Frame(&'a [u8]),
    /// The others get no frame.
    Silent,
    /// As the member itself said when it entered.
    Unknown,
}

/// Which members of a fenced node to remove.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reap {
    /// Those that nobody can resume any more.
    Lost,
    /// Those that the node itself does not have in its next incarnation, or is about to enter again.
    Own,
}

impl Reap {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Reap::Lost => "lost",
            Reap::Own => "own",
        }
    }
}

impl Scripts {
    pub(crate) fn new(keys: Keys, settings: &Checked) -> Scripts {
        Scripts {
            keys,
            log_settings: settings.log,
            log_limits: Mutex::new(settings.log.limits(LogNeeds::default())),
            enter: member_script!("lua/enter.lua"),
            leave: member_script!("lua/leave.lua"),
            publish: room_script!("lua/publish.lua"),
            begin_batch: batch_script!("lua/begin_batch.lua"),
            finish_batch: batch_script!("lua/finish_batch.lua"),
            place: batch_script!("lua/place.lua"),
            transient: room_script!("lua/transient.lua"),
            profile: member_script!("lua/profile.lua"),
            owner: member_script!("lua/owner.lua"),
            read: room_script!("lua/read.lua"),
            history: room_script!("lua/history.lua"),
            roster: member_script!("lua/roster.lua"),
            reap: member_script!("lua/reap.lua"),
            renew: Script::new(include_str!("lua/renew.lua")),
            fence: Script::new(include_str!("lua/fence.lua")),
            forget: session_script!("lua/forget.lua"),
            put_session: session_script!("lua/put_session.lua"),
            close_session: session_script!("lua/close_session.lua"),
            take_over: session_script!("lua/take_over.lua"),
            begin_user: Script::new(include_str!("lua/begin_user.lua")),
            end_user: Script::new(include_str!("lua/end_user.lua")),
            reap_users: Script::new(include_str!("lua/reap_users.lua")),
            user: Script::new(include_str!("lua/user.lua")),
        }
    }

    /// Loads all scripts into the server.
    pub(crate) async fn load(&self, connection: &MultiplexedConnection) -> Result<(), RedisError> {
        let scripts = [
            &self.enter,
            &self.leave,
            &self.publish,
            &self.begin_batch,
            &self.finish_batch,
            &self.place,
            &self.transient,
            &self.profile,
            &self.owner,
            &self.read,
            &self.history,
            &self.roster,
            &self.reap,
            &self.renew,
            &self.fence,
            &self.forget,
            &self.put_session,
            &self.close_session,
            &self.take_over,
            &self.begin_user,
            &self.end_user,
            &self.reap_users,
            &self.user,
        ];
        let load = scripts.map(|script| {
            let mut connection = connection.clone();
            async move { script.load_async(&mut connection).await.map(|_| ()) }
        });
        join_all(load).await.into_iter().collect()
    }

    /// From now on, logs meet these needs, as far as the settings do not say otherwise.
    pub(crate) fn keep_logs(&self, needs: LogNeeds) {
        *lock(&self.log_limits) = self.log_settings.limits(needs);
    }

    fn log_limits(&self) -> LogLimits {
        *lock(&self.log_limits)
    }

    pub(crate) fn enter(&self, member: &NewMember, max_members: u64) -> Request<'_> {
        Request::new(&self.enter)
            .arg(member.id())
            .arg(member.to_record())
            .arg(member.unique())
            .arg(member.unique_owner())
            .arg(member.flags())
            .arg(&member.enter_body()[..])
            .arg(max_members)
            .arg(member.session_id())
            .arg(member.generation())
            .arg(member.replaced())
    }

    /// Only if the member's session has this generation; any, if it is 0. `unannounced` is the id of that session if the host
    /// does not know of the enter; otherwise, it is empty.
    pub(crate) fn leave(
        &self,
        member: &str,
        generation: u64,
        how: Leave<'_>,
        unannounced: &str,
    ) -> Request<'_> {
        let (how, body) = match how {
            Leave::Frame(body) => ("frame", body),
            Leave::Silent => ("silent", &[][..]),
            Leave::Unknown => ("unknown", &[][..]),
        };
        Request::new(&self.leave).arg(member).arg(how).arg(body).arg(generation).arg(unannounced)
    }

    pub(crate) fn publish(&self, member: Option<&str>, key: &str, body: &[u8]) -> Request<'_> {
        Request::new(&self.publish).arg(member.unwrap_or_default()).arg(key).arg(body)
    }

    pub(crate) fn begin_batch(&self, batch: &str, len: usize, floor: Option<u64>) -> Request<'_> {
        let floor = floor.map(|floor| floor.to_string()).unwrap_or_default();
        Request::new(&self.begin_batch).arg(batch).arg(len).arg(floor)
    }

    pub(crate) fn finish_batch(&self, batch: &str, outcome: &BatchOutcome) -> Request<'_> {
        let request = Request::new(&self.finish_batch).arg(batch).arg(u8::from(outcome.has_failed()));
        outcome.messages().iter().fold(request, |request, message| {
            let request = request.arg(message.sender()).arg(message.key()).arg(message.id());
            request.arg(u8::from(message.is_known())).arg(message.body())
        })
    }

    pub(crate) fn place(&self, after: Option<u64>) -> Request<'_> {
        Request::new(&self.place).arg(after.map(|after| after.to_string()).unwrap_or_default())
    }

    pub(crate) fn transient(&self, body: &[u8]) -> Request<'_> {
        Request::new(&self.transient).arg(codec::encode_transient(body))
    }

    pub(crate) fn set_profile(&self, member: &str, profile: &Profile) -> Request<'_> {
        let mut record = Vec::new();
        profile.encode(&mut record);
        Request::new(&self.profile).arg(member).arg(record)
    }

    pub(crate) fn set_owner(&self, member: &str, owner: &str) -> Request<'_> {
        Request::new(&self.owner).arg(member).arg(owner)
    }

    pub(crate) fn read(&self, position: Position) -> Request<'_> {
        let epoch = position.epoch().to_bytes();
        Request::new(&self.read).arg(&epoch[..]).arg(position.next_event()).arg(PAGE)
    }

    pub(crate) fn history(&self, until: Stamp, needs: LogNeeds) -> Request<'_> {
        Request::new(&self.history)
            .arg(&until.epoch.to_bytes()[..])
            .arg(until.event)
            .arg(needs.events)
            .arg(needs.bytes)
            .arg(needs.age.as_millis().min(1 << 52) as u64)
    }

    pub(crate) fn roster(&self, room: &str, after: u64, max: usize) -> Request<'_> {
        let (prefix, suffix) = (self.keys.members_prefix(), format!(":{room}"));
        Request::new(&self.roster).arg(after).arg(max).arg(prefix).arg(suffix)
    }

    /// Removes up to `max` members, but none if any node has removed some within the pause.
    pub(crate) fn reap(&self, which: Reap, max: usize, pause: Duration) -> Request<'_> {
        let reap = Request::new(&self.reap).arg(max).arg(which.name());
        reap.arg(pause.as_millis() as u64).arg(random::number())
    }

    /// A script about a room, with all that it needs.
    pub(crate) fn prepare<'a>(
        &self,
        request: &Request<'a>,
        link: &Link,
        node: &str,
        room: &str,
    ) -> Command<'a> {
        let LogLimits { events, bytes, age, message_id_window } = self.log_limits();
        // As the scripts unpack them.
        let limits = [
            &events.to_be_bytes()[..],
            &bytes.to_be_bytes(),
            &(message_id_window.as_millis() as u64).to_be_bytes(),
            &MAX_MESSAGE_IDS.to_be_bytes(),
        ]
        .concat();
        let mut script = request.script.prepare_invoke();
        script
            .key(&self.keys.of_room(node, room))
            .arg(node)
            .arg(&**link.run())
            .arg(&random::number().to_be_bytes()[..])
            .arg(self.keys.channel(room))
            .arg(limits)
            .arg(age.as_millis() as u64)
            .arg(room)
            .arg(&request.args);
        Command::Script(script)
    }
}

/// A script with its own arguments.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    script: &'a Script,
    args: Vec<Vec<u8>>,
}

impl<'a> Request<'a> {
    fn new(script: &'a Script) -> Request<'a> {
        Request { script, args: Vec::new() }
    }

    fn arg(mut self, arg: impl ToRedisArgs) -> Request<'a> {
        arg.write_redis_args(&mut self.args);
        self
    }
}
