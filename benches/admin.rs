//! What the admin view costs with 10,000 rooms of five members: `cargo bench --bench admin`.
//!
//! Prints how long each request takes, and how long the host's calls to send to a room take while nobody uses the view,
//! and while somebody uses it without a pause. These calls need the same locks as clients that enter and send.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower::ServiceExt;
use tower_chat_rooms::{AdminService, Admission, ChatRooms, Heartbeat, Limits, User};

const ROOMS: usize = 10_000;
const MEMBERS: usize = 5;
const REPEATS: usize = 30;

/// The requests are measured in this order.
const REQUESTS: [&str; 7] =
    ["/rooms", "/rooms?sort=rate", "/rooms?sort=id&limit=1000", "/room?id=17", "/users", "/stats", "/nodes"];

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime starts").block_on(async {
        let rooms = fill().await;
        let admin = rooms.admin().guarded_by_host();
        for path in REQUESTS {
            let mut times = Vec::new();
            let mut bytes = 0;
            for _ in 0..REPEATS {
                let start = Instant::now();
                bytes = ask(&admin, path).await;
                times.push(start.elapsed());
            }
            println!("{path:28} {}, {bytes} bytes", summary(times));
        }
        // The positions of all rooms are read again.
        let mut times = Vec::new();
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(2100)).await;
            let start = Instant::now();
            ask(&admin, "/rooms?sort=rate").await;
            times.push(start.elapsed());
        }
        println!("{:28} {}", "  with new rates", summary(times));
        for is_looking in [false, true, false, true] {
            let looking = is_looking.then(|| tokio::spawn(look(admin.clone())));
            let sender = rooms.clone();
            let times = tokio::task::spawn_blocking(move || send(&sender)).await.expect("it sends");
            if let Some(looking) = looking {
                looking.abort();
            }
            println!("{:28} {}", if is_looking { "send while looking" } else { "send" }, summary(times));
        }
        std::process::exit(0);
    });
}

async fn look(admin: AdminService) {
    loop {
        for path in REQUESTS {
            ask(&admin, path).await;
        }
    }
}

/// Sends to rooms for three seconds. Returns how long each call took.
fn send(rooms: &ChatRooms) -> Vec<Duration> {
    let (end, mut times) = (Instant::now() + Duration::from_secs(3), Vec::new());
    for n in 0.. {
        let (room, start) = ((n * 7 % ROOMS).to_string(), Instant::now());
        let sent = rooms.send(&room, &json!({"event": "notice", "message": n}));
        times.push(start.elapsed());
        drop(sent.expect("the room exists"));
        if start > end {
            break;
        }
        std::thread::sleep(Duration::from_micros(50));
    }
    times
}

/// Asks the view, and returns the length of the answer.
async fn ask(admin: &AdminService, path: &str) -> usize {
    let request = Request::get(path).body(Empty::<Bytes>::new()).expect("the path is valid");
    let response = admin.clone().oneshot(request).await.expect("it always answers");
    assert_eq!(response.status(), 200, "{path}");
    response.into_body().collect().await.expect("it has a body").to_bytes().len()
}

fn summary(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    format!("p50 {:?}, p99 {:?}, max {:?}", at(0.5), at(0.99), at(1.0))
}

/// Chat rooms with their members.
async fn fill() -> ChatRooms {
    let rooms = ChatRooms::builder()
        .limits(Limits::default().max_pending(usize::MAX))
        .heartbeat(Heartbeat::every(Duration::from_secs(3600)))
        .build()
        .expect("the settings are valid");
    let start = Instant::now();
    for n in 0..ROOMS * MEMBERS {
        let enter = format!(r#"{{"event":"enter","message":"member {n}","roomId":{}}}"#, n / MEMBERS);
        let (rooms, io) = (rooms.clone(), Silent::new(&enter));
        let admission = Admission::user(User::new(format!("u-{n}")));
        tokio::spawn(async move { rooms.serve(io, admission).await });
    }
    while rooms.stats().entered < (ROOMS * MEMBERS) as u64 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("{ROOMS} rooms, {} connections, entered within {:?}", ROOMS * MEMBERS, start.elapsed());
    rooms
}

/// A client that sends one frame, and reads everything.
struct Silent {
    frame: Vec<u8>,
    is_read: AtomicBool,
}

impl Silent {
    fn new(text: &str) -> Silent {
        let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).expect("it is short"), 0, 0, 0, 0];
        frame.extend(text.as_bytes());
        Silent { frame, is_read: AtomicBool::new(false) }
    }
}

impl AsyncRead for Silent {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_read.swap(true, Ordering::Relaxed) {
            return Poll::Pending;
        }
        buf.put_slice(&self.frame);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Silent {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
