//! Sessions: one client across its connections. A session is one object; connections attach to it and
//! detach from it.

mod attachment;
#[cfg(feature = "__bench")]
pub(crate) mod bench_cases;
mod callback_runs;
mod callbacks;
mod direct;
mod direct_frames;
mod enter_answer;
mod membership_list;
mod memberships;
mod moving;
mod presence;
mod records;
mod remote_users;
pub(crate) mod removal;
#[allow(clippy::module_inception, reason = "the session is what the folder is named after")]
mod session;
mod sessions;
mod snapshot;
mod submitted_enter;
mod table;
mod users;

pub(crate) use attachment::Attachment;
pub(crate) use enter_answer::FromStore;
pub(crate) use memberships::{CantEnter, EnterCommand, MessageCommand, Submission};
#[cfg(feature = "test-util")]
pub(crate) use session::Membership;
pub(crate) use session::{Opening, Published, Session, Superseded};
pub(crate) use sessions::Sessions;
pub(crate) use snapshot::{SessionSnapshot, SessionState};
pub(crate) use table::SLOTS;
pub(crate) use users::SHARDS as USER_SHARDS;
