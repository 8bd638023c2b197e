//! Clients that ask for much, and read none of it.

use std::time::Duration;

use tokio::time::timeout;
use tower_chat_rooms::{Limits, RateLimits};

use crate::support::{Client, assert_empty, builder, enter_frame, v1_admission};

const SECOND: Duration = Duration::from_secs(1);

/// The answers to its enters are never read, so its later enters wait. It must not stay because of that.
#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_does_not_stay_because_of_unread_answers() {
    for enters in 1..60 {
        let rooms = builder()
            .rate_limits(RateLimits::default().max_bytes_per_second(usize::MAX))
            .limits(Limits::default().max_message_bytes(1024).max_queue_bytes(4096))
            .build()
            .unwrap();
        let mut client = Client::connect_as(&rooms, v1_admission(), 64).await;
        for n in 0..enters {
            let enter = enter_frame("ann", &n.to_string());
            if timeout(SECOND, client.send(enter)).await.is_err() {
                break;
            }
        }
        let gone = timeout(300 * SECOND, client.disconnect()).await;
        assert!(gone.is_ok(), "the connection stays after {enters} enters");
        assert_empty(&rooms);
    }
}
