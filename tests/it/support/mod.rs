//! What the tests share: clients, servers, and a log of the callbacks.

mod broker;
mod client;
mod direct_client;
mod event_log;
mod expiring_tokens;
mod http_server;
mod load;
mod log_capture;
mod open_metrics;
mod raw_frames;
#[cfg(feature = "redis")]
mod redis_broker;
mod rooms;
mod stepped_connection;
mod tcp_server;
mod test_io;
mod v1_client;
mod v1_frames;

pub(crate) use broker::{
    TestBroker, builder, events_arrive, has_redis, has_shared_broker, nth_id, skip_with_broker,
    skip_with_redis,
};
pub(crate) use client::{Client, Next, serve, v1_admission};
pub(crate) use direct_client::{DirectClient, Got};
pub(crate) use event_log::EventLog;
pub(crate) use expiring_tokens::{enter_with_token, user_of, with_expiring_tokens};
pub(crate) use http_server::{
    HANDSHAKE, HEAD_TIMEOUT, HttpResponse, handshake_with_headers, handshake_with_replacement, open_http,
    send_request,
};
pub(crate) use load::{MembershipRecord, Random};
pub(crate) use log_capture::LogCapture;
pub(crate) use open_metrics::OpenMetrics;
pub(crate) use raw_frames::{close_code_of, close_frame, frame, server_frames, text_frame};
#[cfg(feature = "redis")]
pub(crate) use redis_broker::RedisRooms;
pub(crate) use rooms::{assert_empty, default_rooms, rooms_with_log, unlimited, without_limits};
pub(crate) use stepped_connection::{SteppedConnection, run_other_tasks};
pub(crate) use tcp_server::{connect_tcp, next_frame, path_page, raw_request, serve_axum, serve_hyper};
pub(crate) use test_io::TestIo;
pub(crate) use v1_client::{RESUME_WINDOW, V1Client, recovering, recovering_rooms, resumed_and_recovered};
pub(crate) use v1_frames::{
    enter_frame, enter_since, leave_frame, message_frame, message_with_cid, removed_frame, resume_frame,
    rooms_in, take_id,
};
