//! The numbers of [`Stats`] as metrics, under stable names.

mod families;
mod open_metrics;
#[cfg(feature = "metrics")]
mod reporter;

use crate::stats::Stats;

#[cfg(feature = "metrics")]
pub use reporter::MetricsReporter;

impl Stats {
    /// The content type of [`to_open_metrics`](Stats::to_open_metrics).
    pub const OPEN_METRICS_CONTENT_TYPE: &'static str = open_metrics::CONTENT_TYPE;

    /// Returns the numbers as text in the format [OpenMetrics 1.0](https://prometheus.io/docs/specs/om/open_metrics_spec/),
    /// which Prometheus and most other systems read. `docs/metrics.md` in the repository lists all names.
    ///
    /// No metric has the id of a room, a user or a connection as a label, so the length of the text does not depend on
    /// your clients.
    ///
    /// ```
    /// # fn main() -> Result<(), tower_chat_rooms::BuildError> {
    /// use http::header::CONTENT_TYPE;
    /// use http::{HeaderValue, Response};
    /// use tower_chat_rooms::{ChatRooms, Stats};
    ///
    /// /// The answer to Prometheus.
    /// fn metrics(rooms: &ChatRooms) -> Response<String> {
    ///     let mut response = Response::new(rooms.stats().to_open_metrics());
    ///     let content_type = HeaderValue::from_static(Stats::OPEN_METRICS_CONTENT_TYPE);
    ///     response.headers_mut().insert(CONTENT_TYPE, content_type);
    ///     response
    /// }
    /// # let rooms = ChatRooms::builder().build()?;
    /// # assert!(metrics(&rooms).body().ends_with("# EOF\n"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn to_open_metrics(&self) -> String {
        open_metrics::encode(&families::of(self))
    }
}
