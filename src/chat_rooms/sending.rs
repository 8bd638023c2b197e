//! What the host learns of a message that it has sent.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::broker::Unavailable;
use crate::delivery::{Keeping, Kept};
use crate::error::SendError;
use crate::ids::MessageId;
use crate::protocol::position::Position;
use crate::protocol::receipt::Receipt;

/// A message that [`ChatRooms::send`](crate::ChatRooms::send) has sent. It is sent whether you await this value or not.
///
/// Await it to learn the message's id and position. In a single process without a store, they are known immediately.
/// With a [broker](crate::ChatRoomsBuilder::broker) or a [store](crate::ChatRoomsBuilder::store), the future waits for
/// its answer, and fails with [`SendError::Unavailable`] if there is no answer. With a broker, it then waits, for at most
/// a second, until the message has arrived at this node. So the members on this node get the message before they notice
/// what you do next, such as closing the room.
#[derive(Debug)]
pub struct Sending(State);

#[derive(Debug)]
enum State {
    Sent(Sent),
    Submitted(oneshot::Receiver<Receipt>),
    Keeping(Keeping),
}

/// The id and position of a message that you have sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// The id of the message. `None` for a [transient event](crate::ChatRoomsBuilder::transient_events).
    pub id: Option<MessageId>,
    /// The place among the frames of the room. `None` for a transient event.
    pub position: Option<Position>,
}

impl Sending {
    pub(super) fn sent(receipt: Receipt) -> Sending {
        Sending(State::Sent(sent(receipt)))
    }

    pub(super) fn transient() -> Sending {
        Sending(State::Sent(Sent { id: None, position: None }))
    }

    pub(super) fn kept(keeping: Keeping) -> Sending {
        Sending(State::Keeping(keeping))
    }

    pub(super) fn submitted(receipt: oneshot::Receiver<Receipt>) -> Sending {
        Sending(State::Submitted(receipt))
    }
}

fn sent(receipt: Receipt) -> Sent {
    Sent { id: Some(receipt.id), position: Some(receipt.position) }
}

impl Future for Sending {
    type Output = Result<Sent, SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Sent(sent) => Poll::Ready(Ok(*sent)),
            State::Keeping(keeping) => Pin::new(keeping).poll(cx).map(|kept| match kept {
                Ok(Ok(Kept { receipt, .. })) => Ok(sent(receipt)),
                Ok(Err(Unavailable)) | Err(_) => Err(SendError::Unavailable),
            }),
            State::Submitted(receipt) => Pin::new(receipt)
                .poll(cx)
                .map(|receipt| receipt.map(sent).map_err(|_| SendError::Unavailable)),
        }
    }
}
