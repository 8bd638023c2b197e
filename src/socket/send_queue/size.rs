//! The size of waiting frames, and bounds on it.

use std::iter::Sum;
use std::ops::{Add, AddAssign, SubAssign};

/// Bytes of frames, and their number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) bytes: usize,
    pub(crate) frames: usize,
}

impl Size {
    /// The [`Size::fullness`] of exactly the bounds.
    pub(super) const FULL: usize = 1 << 16;

    pub(super) fn fits(self, bounds: Size) -> bool {
        self.bytes <= bounds.bytes && self.frames <= bounds.frames
    }

    /// This size without `other`, and at least zero.
    pub(super) fn minus(self, other: Size) -> Size {
        Size {
            bytes: self.bytes.saturating_sub(other.bytes),
            frames: self.frames.saturating_sub(other.frames),
        }
    }

    pub(super) fn half(self) -> Size {
        Size { bytes: self.bytes / 2, frames: self.frames / 2 }
    }

    /// Three quarters, rounded up.
    pub(super) fn three_quarters(self) -> Size {
        Size { bytes: self.bytes - self.bytes / 4, frames: self.frames - self.frames / 4 }
    }

    /// The part of the bounds that this size uses, in bytes or in frames, whichever is more. It is 0 only if the size
    /// is.
    pub(super) fn fullness(self, bounds: Size) -> usize {
        let part = |n: usize, of: usize| n.saturating_mul(Size::FULL).div_ceil(of.max(1));
        part(self.bytes, bounds.bytes).max(part(self.frames, bounds.frames))
    }
}

impl Add for Size {
    type Output = Size;

    fn add(self, other: Size) -> Size {
        Size { bytes: self.bytes + other.bytes, frames: self.frames + other.frames }
    }
}

impl AddAssign for Size {
    fn add_assign(&mut self, other: Size) {
        *self = *self + other;
    }
}

impl SubAssign for Size {
    fn sub_assign(&mut self, other: Size) {
        self.bytes -= other.bytes;
        self.frames -= other.frames;
    }
}

impl Sum for Size {
    fn sum<I: Iterator<Item = Size>>(sizes: I) -> Size {
        sizes.fold(Size::default(), Size::add)
    }
}
