//! A connection that a call uses.

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool, Postgres};

use crate::error::Error;

/// A connection that a call uses. It is closed if the call is dropped before its end. Otherwise, the connection would
/// keep its place in the pool and wait for an answer that may never come.
pub(super) struct Call {
    connection: PoolConnection<Postgres>,
    is_usable: bool,
}

impl Call {
    pub(super) async fn begin(pool: &PgPool) -> Result<Call, Error> {
        Ok(Call { connection: pool.acquire().await?, is_usable: false })
    }

    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Ends the call with its result.
    pub(super) fn end<T>(mut self, result: Result<T, Error>) -> Result<T, Error> {
        self.is_usable = result.as_ref().err().is_none_or(Error::is_answer);
        result
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.is_usable {
            self.connection.close_on_drop();
        }
    }
}
