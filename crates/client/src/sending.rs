//! The result of sending a message.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::body::Body;
use crate::client::task_ended;
use crate::commands::Commands;
use crate::error::ClientError;

/// The future of a message's acknowledgement. It resolves to the message's sequence number in the room log or, for a
/// direct message, to the number of open connections that the message has reached.
///
/// The message is sent whether this future is awaited or dropped.
#[derive(Debug)]
#[must_use = "only the result tells whether the message has arrived"]
pub struct Sending(Result<oneshot::Receiver<Result<u64, ClientError>>, ClientError>);

impl Sending {
    pub(crate) fn new(sent: Result<oneshot::Receiver<Result<u64, ClientError>>, ClientError>) -> Sending {
        Sending(sent)
    }

    pub(crate) fn to_user(commands: &Commands, user: String, body: Result<Body, ClientError>) -> Sending {
        Sending(body.and_then(|body| commands.send_to_user(user, body)))
    }
}

impl Future for Sending {
    type Output = Result<u64, ClientError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(acknowledged) => {
                Pin::new(acknowledged).poll(cx).map(|result| result.unwrap_or_else(|_| Err(task_ended())))
            }
            Err(error) => Poll::Ready(Err(error.clone())),
        }
    }
}
