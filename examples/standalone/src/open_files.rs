//! What happens when the process has no file descriptor left for a new connection: the client gets a 503, and the log
//! says what to change.

use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::listen::Listener;

/// EMFILE and ENFILE, which have these numbers on every Unix.
const OUT_OF_FILES: [i32; 2] = [24, 23];

/// How often the log may say so.
const INTERVAL: Duration = Duration::from_secs(10);

const RESPONSE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 51\r\nRetry-After: 5\r\nConnection: close\r\n\r\n\
    the server has too many connections; try again soon";

pub(crate) fn is_out_of_files(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|number| cfg!(unix) && OUT_OF_FILES.contains(&number))
}

/// The number of files that this process may open, if the system says so.
pub(crate) fn limit() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A file descriptor that is freed for a moment to accept and refuse a connection. Otherwise, the clients would wait
/// until they give up.
#[derive(Debug)]
pub(crate) struct Reserve(Option<File>);

impl Reserve {
    pub(crate) fn new() -> Reserve {
        Reserve(File::open(if cfg!(windows) { "NUL" } else { "/dev/null" }).ok())
    }

    /// Refuses the connection that waits first. Returns whether there was one: Linux looks for a descriptor before it
    /// looks for a connection.
    pub(crate) async fn refuse(&mut self, listener: &Listener) -> io::Result<bool> {
        self.0 = None;
        let accepted = timeout(Duration::ZERO, listener.accept()).await;
        let refused = match accepted {
            Ok(Ok((socket, _))) => {
                // The client may not be there to read it.
                let _ = socket.refuse(RESPONSE);
                Ok(true)
            }
            // The descriptor was used for something else meanwhile.
            Ok(Err(error)) => Err(error),
            Err(_) => Ok(false),
        };
        *self = Reserve::new();
        refused
    }
}

/// Limits the log lines about connections that found no file descriptor.
#[derive(Debug, Default)]
pub(crate) struct Shortage(Mutex<Option<Running>>);

/// A shortage that has begun, and is over when a connection is accepted long enough after the last line.
#[derive(Debug)]
struct Running {
    connections: u64,
    next_line: Instant,
}

impl Shortage {
    /// A connection found no descriptor. Returns how many have, if that should be logged now.
    pub(crate) fn add(&self, now: Instant) -> Option<u64> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let running = running.get_or_insert(Running { connections: 0, next_line: now });
        running.connections += 1;
        if now < running.next_line {
            return None;
        }
        running.next_line = now + INTERVAL;
        Some(running.connections)
    }

    /// A connection was accepted. Returns how many found no descriptor, if that should be logged now.
    pub(crate) fn end(&self, now: Instant) -> Option<u64> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.take_if(|running| now >= running.next_line).map(|running| running.connections)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_logged_when_it_begins_and_then_now_and_then() {
        let (shortage, start) = (Shortage::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(shortage.end(at(0)), None);
        assert_eq!([shortage.add(at(1)), shortage.add(at(1)), shortage.add(at(10))], [Some(1), None, None]);
        // One connection ends, and the next one finds no descriptor again.
        assert_eq!([shortage.end(at(10)), shortage.add(at(11)), shortage.add(at(12))], [None, Some(4), None]);
        assert_eq!([shortage.end(at(20)), shortage.end(at(21)), shortage.end(at(40))], [None, Some(5), None]);
        assert_eq!(shortage.add(at(41)), Some(1));
    }

    #[test]
    fn the_response_has_its_length() {
        let text = String::from_utf8_lossy(RESPONSE);
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
    }
}
