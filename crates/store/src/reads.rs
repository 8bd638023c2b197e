//! How many pages are read at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::error::Error;

/// Leaves connections of a pool for messages that are to be stored, however many clients read at the same time.
#[derive(Debug, Clone)]
pub(crate) struct Reads {
    places: Arc<Semaphore>,
    wait: Duration,
}

impl Reads {
    /// For a pool with this many connections, which waits at most this long for one of them.
    pub(crate) fn new(connections: u32, wait: Duration) -> Reads {
        let places = (connections - connections.div_ceil(4)).max(1);
        Reads { places: Arc::new(Semaphore::new(places as usize)), wait }
    }

    /// Reads as soon as there are not too many others that read. Fails as the pool does if that takes too long.
    pub(crate) async fn run<T>(&self, read: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let Ok(Ok(_place)) = timeout(self.wait, self.places.acquire()).await else {
            return Err(sqlx::Error::PoolTimedOut.into());
        };
        read.await
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::task::{JoinSet, yield_now};

    use super::*;
    use crate::error::ErrorKind;

    #[tokio::test]
    async fn some_connections_are_left_while_many_read() {
        for (connections, places) in [(1, 1), (2, 1), (5, 3), (10, 7)] {
            let reads = Reads::new(connections, Duration::from_millis(1));
            let mut reading = JoinSet::new();
            for _ in 0..places {
                let reads = reads.clone();
                reading.spawn(async move { reads.run(pending::<Result<(), Error>>()).await });
            }
            while reads.places.available_permits() > 0 {
                yield_now().await;
            }
            let refused = reads.run(ready(Ok(()))).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unavailable, "{connections}");
            reading.shutdown().await;
            reads.run(ready(Ok(()))).await.unwrap();
        }
    }
}
