//! Where a test has called a method.

use std::fmt::Display;
use std::panic::Location;

/// The line of the test that has called a method. A panic in the method's future is located in this crate, so its message
/// names the line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller(&'static Location<'static>);

impl Caller {
    #[track_caller]
    pub(super) fn here() -> Caller {
        Caller(Location::caller())
    }

    /// Fails the test.
    pub(super) fn fail(self, message: impl Display) -> ! {
        panic!("at {}:{}: {message}", self.0.file(), self.0.line())
    }
}
