//! Replays that race with new messages: no frame is lost or received twice.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::timeout;
use tower_chat_rooms::{History, Recovery};

use crate::support::{EventLog, RESUME_WINDOW, V1Client, recovering, resumed_and_recovered};

/// A step of a run.
#[derive(Debug, Clone)]
enum Step {
    /// Bob sends a message.
    Send,
    /// Ann reads up to this many of the frames that have arrived.
    Read(usize),
    /// Ann's connection is lost with everything in it, and ann reconnects.
    Disconnect,
    /// Ann reconnects before the server has noticed that the connection is lost.
    HalfOpen,
    /// Milliseconds pass.
    Wait(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => Just(Step::Send),
        3 => (0usize..4).prop_map(Step::Read),
        2 => Just(Step::Disconnect),
        1 => Just(Step::HalfOpen),
        1 => (0u64..400).prop_map(Step::Wait),
    ]
}

/// Reads up to `max` of the frames that have arrived.
async fn read(client: &mut V1Client, max: usize, received: &mut Vec<u64>) {
    for _ in 0..max {
        let next = timeout(Duration::from_millis(1), client.next()).await;
        let Ok(frame) = next else { return };
        received.extend(frame["message"].as_u64());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn every_frame_is_received_once_and_in_order(
        steps in prop::collection::vec(any_step(), 1..60),
        flushed in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let log = EventLog::default();
            let recovery = Recovery::default().resume_window(RESUME_WINDOW).history(History::last(500));
            let rooms = recovering(&log).recovery(recovery).build().unwrap();
            let mut bob = V1Client::enter(&rooms, "bob").await;
            let mut ann = V1Client::enter(&rooms, "ann").await;
            bob.expect_message("ann").await;
            let (mut sent, mut received) = (0u64, Vec::new());
            for step in steps {
                match step {
                    Step::Send => {
                        bob.send_message(sent).await;
                        sent += 1;
                        // Otherwise the next step may come before the room's flush task.
                        if flushed {
                            bob.expect_message(sent - 1).await;
                        }
                    }
                    Step::Read(max) => read(&mut ann, max, &mut received).await,
                    Step::Disconnect => {
                        ann.disconnect().await;
                        assert_eq!(resumed_and_recovered(&ann.reconnect(&rooms).await), (true, true));
                    }
                    Step::HalfOpen => {
                        assert_eq!(resumed_and_recovered(&ann.reconnect(&rooms).await), (true, true));
                    }
                    Step::Wait(ms) => {
                        read(&mut bob, usize::MAX, &mut Vec::new()).await;
                        tokio::time::sleep(Duration::from_millis(ms)).await;
                        read(&mut ann, usize::MAX, &mut received).await;
                    }
                }
            }
            read(&mut ann, usize::MAX, &mut received).await;
            assert!(received.iter().copied().eq(0..sent), "{sent} sent, received {received:?}");
            assert_eq!(log.take_moves(), ["+ bob r 1", "+ ann r 2"]);
        });
    }
}
