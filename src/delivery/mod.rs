//! Rooms in use: their members, the order of their frames, and the delivery to the members.

mod batch;
#[cfg(feature = "__bench")]
pub(crate) mod bench_cases;
mod enter_outcome;
mod flush;
mod hold;
mod live_room;
mod message_hooks;
mod message_ids;
mod presence;
mod recipient;
mod refusal;
mod registry;
mod remote_room;
mod replay_request;
mod room_state;
mod rooms;
mod roster;
mod snapshot;
mod spread;
mod store_queue;
mod transient;

pub(crate) use batch::Batch;
pub(crate) use enter_outcome::{EnterOutcome, MembersOutcome};
pub(crate) use hold::{HoldBudget, MinRate};
pub(crate) use live_room::{Handle, LiveRoom, RoomKey};
pub(crate) use message_hooks::{Called, Calling};
pub(crate) use message_ids::{MessageIds, SentIds, WaitingId};
pub(crate) use presence::PresenceBatch;
pub(crate) use recipient::Recipient;
pub(crate) use refusal::{NotPublished, Refused};
pub(crate) use registry::TooManyRooms;
pub(crate) use remote_room::Entered;
pub(crate) use replay_request::ReplayRequest;
pub(crate) use room_state::Replay;
pub(crate) use rooms::keeping::{Draft, Keeping, Kept};
pub(crate) use rooms::reading::{Page, ReadAhead};
pub(crate) use rooms::remote::{Applied, Entering, IfMoved, MovedHere};
pub(crate) use rooms::{Entrant, Rooms};
pub(crate) use roster::{RosterPage, profile_text};
pub(crate) use snapshot::MemberSnapshot;
pub(crate) use transient::TransientBatch;
