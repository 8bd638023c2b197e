//! Replays that race what is being said: however they fall together, nothing is lost or doubled.

use std::time::Duration;

use proptest::prelude::*;
use tower_chat_rooms::{History, Recovery};

use crate::client::Log;
use crate::comer::{Comer, GRACE, builder, resumed};

/// What happens in a run, in any order.
#[derive(Debug, Clone)]
enum Op {
    /// Bob says something.
    Say,
    /// Ann reads so many frames of what has come.
    Read(usize),
    /// Her connection breaks, with everything that is under way.
    Cut,
    /// It breaks without the server's knowing, and she comes back.
    HalfOpen,
    /// Time passes.
    Pass(u64),
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => Just(Op::Say),
        3 => (0usize..4).prop_map(Op::Read),
        2 => Just(Op::Cut),
        1 => Just(Op::HalfOpen),
        1 => (0u64..400).prop_map(Op::Pass),
    ]
}

/// Reads up to so many frames of those that are there.
async fn read(ann: &mut Comer, most: usize, heard: &mut Vec<u64>) {
    for _ in 0..most {
        let next = tokio::time::timeout(Duration::from_millis(1), ann.next()).await;
        let Ok(frame) = next else { return };
        heard.extend(frame["message"].as_u64());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// However cuts, replays and new messages fall together, she has every frame once, in order.
    #[test]
    fn every_frame_comes_once_and_in_order(ops in prop::collection::vec(any_op(), 1..60), buffer in 0usize..2) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let log = Log::default();
            let recovery = Recovery::default().resume_window(GRACE).history(History::last(500));
            let rooms = builder(&log).recovery(recovery).build().unwrap();
            let mut bob = Comer::enter(&rooms, "bob").await;
            let mut ann = Comer::enter(&rooms, "ann").await;
            bob.hears("ann").await;
            let (mut said, mut heard) = (0u64, Vec::new());
            for op in ops {
                match op {
                    Op::Say => {
                        bob.say(said).await;
                        said += 1;
                        // With the flusher's work done or not.
                        if buffer == 0 {
                            bob.hears(said - 1).await;
                        }
                    }
                    Op::Read(n) => read(&mut ann, n, &mut heard).await,
                    Op::Cut => {
                        ann.lose().await;
                        assert!(resumed(&ann.back(&rooms).await) == (true, true));
                    }
                    Op::HalfOpen => assert!(resumed(&ann.back(&rooms).await) == (true, true)),
                    Op::Pass(ms) => {
                        read(&mut bob, usize::MAX, &mut Vec::new()).await;
                        tokio::time::sleep(Duration::from_millis(ms)).await;
                        read(&mut ann, usize::MAX, &mut heard).await;
                    }
                }
            }
            read(&mut ann, usize::MAX, &mut heard).await;
            assert!(heard.iter().copied().eq(0..said), "{said} said, heard {heard:?}");
            let lines: Vec<String> = log.take().into_iter().filter(|line| !line.contains(':')).collect();
            assert_eq!(lines, ["+ bob r 1", "+ ann r 2"]);
        });
    }
}
