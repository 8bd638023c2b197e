//! Measures rooms with and without a store, and prints a table:
//!
//! ```sh
//! cargo run --release -p tower-chat-rooms-store --example rooms -- sqlite:measure.db postgres://user@host/database
//! ```
//!
//! Server and clients are in this process and talk over TCP. In each round, all cases are measured one after another, so
//! that other programs disturb all of them. Stored messages are deleted at the end.

use std::error::Error;
use std::time::{Duration, Instant};

use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tower_chat_rooms::{ChatRooms, ChatRoomsBuilder, Keep, RateLimits, RoomId};
use tower_chat_rooms_client::Client;
use tower_chat_rooms_store::{PostgresStore, SqliteStore};

const ROUNDS: usize = 5;

/// For how long each case runs in each round.
const TIME: Duration = Duration::from_secs(1);

/// A usual message with the data of its sender has about 200 bytes.
const TEXT_BYTES: usize = 100;

type BoxError = Box<dyn Error + Send + Sync>;

/// A database.
enum Database {
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
}

/// Where messages are stored.
struct Target<'a> {
    name: String,
    store: Option<(&'a Database, Keep)>,
}

/// Rooms, and the members of each. A member sends its next message when the last one is acknowledged.
#[derive(Clone, Copy)]
struct Load {
    rooms: usize,
    members: usize,
}

const LOADS: [Load; 3] =
    [Load { rooms: 1, members: 1 }, Load { rooms: 1, members: 50 }, Load { rooms: 50, members: 2 }];

/// The figures of one run.
#[derive(Clone, Copy)]
struct Figures {
    per_second: f64,
    p50: Duration,
    p99: Duration,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut databases = Vec::new();
    for url in std::env::args().skip(1) {
        databases.push(Database::connect(&url).await?);
    }
    let mut targets = vec![Target { name: "no store".into(), store: None }];
    for database in &databases {
        for keep in [Keep::Behind, Keep::First] {
            let name = format!("{}, `Keep::{keep:?}`", database.name());
            targets.push(Target { name, store: Some((database, keep)) });
        }
    }
    println!(
        "| rooms | members | | messages/s | p50 ms | p99 ms | messages/s, ratio to no store | p50, ratio |"
    );
    println!("|---:|---:|---|---:|---:|---:|---:|---:|");
    for load in LOADS {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let mut round = Vec::new();
            for target in &targets {
                round.push(target.measure(load).await?);
            }
            rounds.push(round);
        }
        for (n, target) in targets.iter().enumerate() {
            let ms = |time: Duration| time.as_secs_f64() * 1e3;
            println!(
                "| {} | {} | {} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} |",
                load.rooms,
                load.members,
                target.name,
                median(rounds.iter().map(|round| round[n].per_second)),
                median(rounds.iter().map(|round| ms(round[n].p50))),
                median(rounds.iter().map(|round| ms(round[n].p99))),
                median(rounds.iter().map(|round| round[n].per_second / round[0].per_second)),
                median(rounds.iter().map(|round| ms(round[n].p50) / ms(round[0].p50))),
            );
        }
    }
    for database in &databases {
        for n in 0..LOADS.iter().map(|load| load.rooms).max().unwrap_or(0) {
            database.delete_room(&room_id(n)).await?;
        }
    }
    Ok(())
}

impl Database {
    async fn connect(url: &str) -> Result<Database, BoxError> {
        if url.starts_with("sqlite:") {
            let store = SqliteStore::connect(url).await?;
            store.migrate().await?;
            return Ok(Database::Sqlite(store));
        }
        let store = PostgresStore::connect(url).await?;
        store.migrate().await?;
        Ok(Database::Postgres(store))
    }

    fn name(&self) -> &'static str {
        match self {
            Database::Sqlite(_) => "SQLite",
            Database::Postgres(_) => "Postgres",
        }
    }

    fn add_to(&self, builder: ChatRoomsBuilder) -> ChatRoomsBuilder {
        match self {
            Database::Sqlite(store) => builder.store(store.clone()),
            Database::Postgres(store) => builder.store(store.clone()),
        }
    }

    async fn delete_room(&self, room: &RoomId) -> Result<u64, tower_chat_rooms_store::Error> {
        match self {
            Database::Sqlite(store) => store.delete_room(room).await,
            Database::Postgres(store) => store.delete_room(room).await,
        }
    }
}

impl Target<'_> {
    /// Messages until their acknowledgements, on a server of its own.
    async fn measure(&self, load: Load) -> Result<Figures, BoxError> {
        let unlimited = RateLimits::default()
            .max_messages_per_second(u32::MAX)
            .max_bytes_per_second(usize::MAX)
            .max_new_rooms_per_minute(u32::MAX);
        let mut builder = ChatRooms::builder().rate_limits(unlimited);
        if let Some((database, keep)) = self.store {
            builder = database.add_to(builder).keep(keep);
        }
        let rooms = builder.build()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("ws://{}/", listener.local_addr()?);
        let app = Router::new().route_service("/", rooms.service());
        let serving = tokio::spawn(async move { axum::serve(listener, app).await });

        let (mut senders, mut readers) = (Vec::new(), JoinSet::new());
        for n in 0..load.rooms {
            for member in 0..load.members {
                let client = Client::connect(&*url).name(member.to_string()).room(room_id(n).as_str());
                let mut client = client.await?;
                senders.push(client.sender());
                readers.spawn(async move { while client.recv().await.is_some() {} });
            }
        }
        let begin = Instant::now();
        let mut writers = JoinSet::new();
        for sender in senders {
            writers.spawn(async move {
                let (text, mut times) = ("x".repeat(TEXT_BYTES), Vec::new());
                while begin.elapsed() < TIME {
                    let begin = Instant::now();
                    sender.send(&text).await?;
                    times.push(begin.elapsed());
                }
                Ok::<_, BoxError>(times)
            });
        }
        let mut times = Vec::new();
        for result in writers.join_all().await {
            times.extend(result?);
        }
        let per_second = times.len() as f64 / begin.elapsed().as_secs_f64();
        times.sort_unstable();
        let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        readers.shutdown().await;
        // What is not stored yet is stored now.
        rooms.shutdown().await;
        serving.abort();
        Ok(Figures { per_second, p50, p99 })
    }
}

fn room_id(n: usize) -> RoomId {
    RoomId::from(format!("measure-{n}"))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
