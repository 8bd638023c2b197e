//! Measures how many messages per second a database stores:
//!
//! ```sh
//! cargo run --release -p tower-chat-rooms-store --example measure_store -- sqlite:measure.db
//! cargo run --release -p tower-chat-rooms-store --example measure_store -- postgres://user@host/database
//! ```
//!
//! It leaves its messages in rooms whose ids begin with `measure-`, and deletes them at the end.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::task::JoinSet;
use tower_chat_rooms::store::{MAX_PAGE, MessageStore, PageRange, StoredMessage};
use tower_chat_rooms::{MessageId, RoomId};
use tower_chat_rooms_store::{Error, PostgresStore, SqliteStore};

/// For how long each case runs.
const TIME: Duration = Duration::from_secs(3);

/// A usual message with the data of its sender has about 200 bytes.
const TEXT_BYTES: usize = 100;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("name a database, for example sqlite:measure.db")?;
    if url.starts_with("sqlite:") {
        let store = SqliteStore::connect(&url).await?;
        store.migrate().await?;
        let rooms = measure(Arc::new(store.clone())).await?;
        for room in rooms {
            store.delete_room(&room).await?;
        }
    } else {
        let store = PostgresStore::connect(&url).await?;
        store.migrate().await?;
        let rooms = measure(Arc::new(store.clone())).await?;
        for room in rooms {
            store.delete_room(&room).await?;
        }
    }
    Ok(())
}

async fn measure(store: Arc<impl MessageStore<Error = Error>>) -> Result<Vec<RoomId>, Error> {
    let mut all = Vec::new();
    for rooms in [1, 20] {
        for batch in [1, 10, 100, 1000] {
            all.extend(appends(&store, rooms, batch).await?);
        }
    }
    pages(&store, &all[0]).await?;
    Ok(all)
}

/// Messages per second with this many rooms, each of which appends this many messages at a time.
async fn appends(
    store: &Arc<impl MessageStore<Error = Error>>,
    rooms: usize,
    batch: usize,
) -> Result<Vec<RoomId>, Error> {
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for n in 0..rooms {
        let store = store.clone();
        let room = RoomId::from(format!("measure-{rooms}-{batch}-{n}-{:?}", SystemTime::now()));
        tasks.spawn(async move {
            let (mut last, mut times) = (None, Vec::new());
            while begin.elapsed() < TIME {
                let messages: Vec<_> = (0..batch).map(|_| message(&mut last)).collect();
                let begin = Instant::now();
                store.append(&room, &messages).await?;
                times.push(begin.elapsed());
            }
            Ok::<_, Error>((room, times))
        });
    }
    let (mut all, mut times) = (Vec::new(), Vec::new());
    for result in tasks.join_all().await {
        let (room, more) = result?;
        all.push(room);
        times.extend(more);
    }
    times.sort_unstable();
    println!(
        "{rooms} rooms, {batch} messages at a time: {:.0} messages/s, p50 {:?}, p99 {:?}",
        (times.len() * batch) as f64 / begin.elapsed().as_secs_f64(),
        times[times.len() / 2],
        times[times.len() * 99 / 100],
    );
    Ok(all)
}

async fn pages(store: &Arc<impl MessageStore<Error = Error>>, room: &RoomId) -> Result<(), Error> {
    for limit in [50, MAX_PAGE] {
        let (begin, mut pages) = (Instant::now(), 0);
        while begin.elapsed() < TIME {
            store.page(room, PageRange::Latest, limit).await?;
            pages += 1;
        }
        println!("pages of {limit} messages: {:.0}/s", f64::from(pages) / begin.elapsed().as_secs_f64());
    }
    Ok(())
}

fn message(last: &mut Option<MessageId>) -> StoredMessage {
    let id = MessageId::next(*last, SystemTime::now());
    *last = Some(id);
    let body = format!("{{\"event\":\"message\",\"message\":\"{}\"}}", "x".repeat(TEXT_BYTES));
    StoredMessage::new(id, body).with_key(format!("{:024x}", id.as_u64())).with_user("u-1").with_name("Ann")
}
