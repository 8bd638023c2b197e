//! Timeouts: for entering, and for a connection's lifetime.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::{Instant, timeout};
use tower_chat_rooms::{Admission, Denied, Heartbeat, History, Recovery, Timeouts, User};

use crate::support::{Client, EventLog, V1Client, builder, enter_frame, resumed_and_recovered};

#[tokio::test(start_paused = true)]
async fn a_connection_ends_after_its_lifetime_and_its_session_is_kept() {
    let log = EventLog::default();
    let rooms = builder()
        .timeouts(Timeouts::default().max_lifetime(Duration::from_secs(100)))
        .heartbeat(Heartbeat::every(Duration::from_secs(10)))
        .recovery(Recovery::default().resume_window(Duration::from_secs(10)))
        .events(log.hook())
        .build()
        .unwrap();
    let begin = Instant::now();
    let mut plain = Client::connect(&rooms).await;
    let mut v1 = Vec::new();
    for n in 0..20 {
        let (mut client, welcome) = Client::connect_v1(&rooms, Admission::anonymous()).await;
        client.send(enter_frame(&n.to_string(), &n.to_string())).await;
        assert_eq!(client.next().await["event"], "entered");
        v1.push((client, welcome["resume"].clone()));
    }
    log.take();
    let ends = join_all(v1.iter_mut().map(|(client, _)| async {
        assert_eq!(client.close_code().await, 4003);
        begin.elapsed()
    }));
    // A connection that has not entered is closed earlier.
    let (ends, code) = tokio::join!(ends, plain.close_code());
    assert_eq!((code, log.take()), (4002, Vec::new()));
    let (first, last) = (ends.iter().min().unwrap(), ends.iter().max().unwrap());
    assert!(*first >= Duration::from_secs(90) && *last <= Duration::from_secs(101), "{ends:?}");
    assert!(*last - *first > Duration::from_secs(5), "{ends:?}");
    assert_eq!(rooms.stats().lifetime_over, 20);
    // The last one to be closed can still resume.
    let at = ends.iter().position(|end| end == last).unwrap();
    let (mut client, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    let entered = client.resume_and_enter([&v1[at].1], enter_frame(&at.to_string(), &at.to_string())).await;
    assert_eq!((&entered["event"], &entered["resumed"]), (&json!("entered"), &json!(true)));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_enters_is_closed() {
    let rooms =
        builder().timeouts(Timeouts::default().enter_timeout(Duration::from_secs(4))).build().unwrap();
    let mut idle = Client::connect(&rooms).await;
    let begin = Instant::now();
    assert_eq!(idle.close_code().await, 4002);
    assert_eq!(begin.elapsed(), Duration::from_secs(4));
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    timeout(Duration::from_secs(20), ann.next()).await.unwrap_err();
    assert_eq!(rooms.stats().connections, 1);
}

#[tokio::test(start_paused = true)]
async fn timeouts_can_be_as_long_as_a_duration_can_be() {
    for time in [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_secs(i64::MAX as u64)] {
        let timeouts = Timeouts::default()
            .enter_timeout(time)
            .auth_timeout(time)
            .hook_timeout(time)
            .close_timeout(time)
            .write_timeout(time)
            .max_lifetime(time)
            .token_warning(time);
        let rooms = builder()
            .heartbeat(Heartbeat::every(time))
            .timeouts(timeouts)
            .recovery(Recovery::default().resume_window(time).history(History::last(9).for_at_most(time)))
            .auth(move |token: String| async move { Ok::<_, Denied>(User::new(token).expires_in(time)) })
            .build()
            .unwrap();
        let mut ann = V1Client::enter(&rooms, "ann").await;
        ann.connection.send(json!({"event": "auth", "message": "u-1"})).await;
        ann.disconnect().await;
        let back = ann.reconnect_as(&rooms, Admission::user(User::new("u-1").expires_in(time))).await;
        assert_eq!(resumed_and_recovered(&back), (true, true));
        ann.send_message("hi").await;
        ann.expect_message("hi").await;
        assert_eq!(rooms.stats().connections, 1);
        tokio::join!(rooms.shutdown(), ann.connection.close_code());
    }
}
