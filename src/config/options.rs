//! Structs of options, each option declared once.

use std::fmt::Debug;
use std::time::Duration;

use crate::error::BuildError;

/// An option's name, documentation and default.
///
/// Command-line flags can be generated from it.
#[derive(Debug, Clone, Copy)]
pub struct OptionInfo {
    name: &'static str,
    doc: &'static str,
    default: fn() -> String,
}

impl OptionInfo {
    pub(super) const fn new(name: &'static str, doc: &'static str, default: fn() -> String) -> OptionInfo {
        OptionInfo { name, doc, default }
    }

    /// The name of the setter, such as `max_rooms`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The first paragraph of the documentation, on one line and without its final period.
    pub fn summary(&self) -> String {
        let lines = self.doc.lines().map(str::trim).take_while(|line| !line.is_empty());
        let text = lines.collect::<Vec<_>>().join(" ");
        text.strip_suffix('.').map(str::to_owned).unwrap_or(text)
    }

    /// The default, written as `set` reads it.
    pub fn default_text(&self) -> String {
        (self.default)()
    }
}

/// A type that an option can have.
pub(super) trait OptionValue: Sized + Debug {
    /// Describes the texts that can be parsed.
    const EXPECTED: &'static str;

    fn from_text(text: &str) -> Option<Self>;

    fn to_text(&self) -> String;

    /// Whether the value is zero, which most options refuse.
    fn is_zero(&self) -> bool;
}

pub(super) fn parse<T: OptionValue>(option: &str, text: &str) -> Result<T, BuildError> {
    T::from_text(text.trim())
        .ok_or_else(|| BuildError::new(format!("{option} is {text:?}; expected {}", T::EXPECTED)))
}

/// Stands for the greatest value of a type.
const UNLIMITED: &str = "unlimited";

macro_rules! integer {
    ($type:ty) => {
        impl OptionValue for $type {
            const EXPECTED: &'static str = "a number, or `unlimited`";

            fn from_text(text: &str) -> Option<$type> {
                if text == UNLIMITED { Some(<$type>::MAX) } else { text.parse().ok() }
            }

            fn to_text(&self) -> String {
                if *self == <$type>::MAX { UNLIMITED.into() } else { self.to_string() }
            }

            fn is_zero(&self) -> bool {
                *self == 0
            }
        }
    };
}

integer!(u32);
integer!(usize);

impl OptionValue for Duration {
    const EXPECTED: &'static str = "a time such as `500ms`, `10s` or `1h 30m`, or `unlimited`";

    fn from_text(mut text: &str) -> Option<Duration> {
        if text == UNLIMITED {
            return Some(Duration::MAX);
        }
        let mut sum = Duration::ZERO;
        loop {
            let digits = text.find(|c: char| !c.is_ascii_digit())?;
            let number = text[..digits].parse().ok()?;
            text = &text[digits..];
            let letters = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
            let part = match &text[..letters] {
                "ms" => Duration::from_millis(number),
                "s" => Duration::from_secs(number),
                "m" | "min" => Duration::from_secs(number.checked_mul(60)?),
                "h" => Duration::from_secs(number.checked_mul(60 * 60)?),
                "d" => Duration::from_secs(number.checked_mul(24 * 60 * 60)?),
                _ => return None,
            };
            sum = sum.checked_add(part)?;
            text = text[letters..].trim_start();
            if text.is_empty() {
                return Some(sum);
            }
        }
    }

    fn to_text(&self) -> String {
        match (self.as_secs(), self.subsec_millis()) {
            _ if *self == Duration::MAX => UNLIMITED.into(),
            (secs, 0) => format!("{secs}s"),
            (0, millis) => format!("{millis}ms"),
            (secs, millis) => format!("{secs}s {millis}ms"),
        }
    }

    fn is_zero(&self) -> bool {
        Duration::is_zero(self)
    }
}

/// Declares a struct of options.
///
/// Each option is a line `name: type = default;` below its documentation, and gets a private field, its
/// default, a setter and an [`OptionInfo`]. With `name: type as argument = default;`, the setter accepts
/// anything that converts into the type.
macro_rules! options {
    (
        $(#[$attribute:meta])*
        pub struct $Options:ident {
            $(
                $(#[doc = $doc:literal])+
                $name:ident: $type:ty $(as $argument:ty)? = $default:expr;
            )+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $Options {
            $(pub(crate) $name: $type,)+
        }

        impl Default for $Options {
            fn default() -> $Options {
                $Options { $($name: $default,)+ }
            }
        }

        impl $Options {
            $(
                $(#[doc = $doc])+
                ///
                #[doc = concat!("Default: `", stringify!($default), "`.")]
                #[must_use]
                pub fn $name(mut self, $name: options!(@argument $type $(, $argument)?)) -> $Options {
                    self.$name = $name.into();
                    self
                }
            )+

            /// All options.
            #[doc(hidden)]
            pub fn options() -> &'static [$crate::config::options::OptionInfo] {
                use $crate::config::options::{OptionInfo, OptionValue};
                const OPTIONS: &[OptionInfo] = &[$(OptionInfo::new(
                    stringify!($name),
                    concat!($($doc, "\n"),+),
                    || OptionValue::to_text(&$Options::default().$name),
                )),+];
                OPTIONS
            }

            /// Sets an option by its name from text.
            ///
            /// # Errors
            ///
            /// If there is no such option, or the text is not a value of its type.
            #[doc(hidden)]
            pub fn set(&mut self, name: &str, text: &str) -> Result<(), $crate::error::BuildError> {
                match name {
                    $(stringify!($name) => {
                        let option = concat!(stringify!($Options), "::", stringify!($name));
                        self.$name = $crate::config::options::parse(option, text)?;
                    })+
                    _ => {
                        let text = format!("{} has no option {name:?}", stringify!($Options));
                        return Err($crate::error::BuildError::new(text));
                    }
                }
                Ok(())
            }

            /// The options that are not the default, as `name=value`.
            pub(crate) fn changed(&self) -> impl Iterator<Item = String> {
                use $crate::config::options::OptionValue;
                let default = $Options::default();
                [$((self.$name != default.$name)
                    .then(|| format!("{}={}", stringify!($name), OptionValue::to_text(&self.$name)))),+]
                .into_iter()
                .flatten()
            }

            /// The names of the options that are zero.
            pub(crate) fn zeros(&self) -> impl Iterator<Item = &'static str> {
                use $crate::config::options::OptionValue;
                [$((stringify!($name), OptionValue::is_zero(&self.$name))),+]
                    .into_iter()
                    .filter_map(|(name, is_zero)| is_zero.then_some(name))
            }
        }
    };
    (@argument $type:ty) => { $type };
    (@argument $type:ty, $argument:ty) => { $argument };
}

pub(super) use options;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{History, Limits, RateLimits, Recovery, Timeouts};

    #[test]
    fn every_option_has_a_summary_and_a_default_that_can_be_set() {
        let mut limits = Limits::default().max_rooms(1);
        for option in Limits::options() {
            limits.set(option.name(), &option.default_text()).unwrap();
        }
        assert_eq!(limits, Limits::default());
        let mut recovery = Recovery::default().history(History::last(7));
        for option in Recovery::options() {
            recovery.set(option.name(), &option.default_text()).unwrap();
        }
        assert_eq!(recovery, Recovery::default());
        let all = [Limits::options(), RateLimits::options(), Timeouts::options(), Recovery::options()];
        for option in all.into_iter().flatten() {
            let summary = option.summary();
            assert!(!summary.is_empty() && summary.len() < 110, "{}: {summary}", option.name());
            assert!(!summary.ends_with('.') && !summary.contains('['), "{}: {summary}", option.name());
        }
    }

    #[test]
    fn changed_options_are_listed() {
        assert_eq!(Limits::default().changed().count(), 0);
        let limits = Limits::default().max_rooms(5).max_depth(usize::MAX);
        assert!(limits.changed().eq(["max_depth=unlimited", "max_rooms=5"]), "{limits:?}");
    }

    #[test]
    fn options_are_set_from_text() {
        let mut timeouts = Timeouts::default();
        for (text, want) in [
            ("10s", Duration::from_secs(10)),
            ("250ms", Duration::from_millis(250)),
            ("1h 30m", Duration::from_secs(5400)),
            ("2d1s", Duration::from_secs(2 * 86_400 + 1)),
            ("0s", Duration::ZERO),
            ("unlimited", Duration::MAX),
        ] {
            timeouts.set("enter_timeout", text).unwrap();
            assert_eq!(timeouts.enter_timeout, want, "{text}");
            assert_eq!(Duration::from_text(&want.to_text()), Some(want), "{text}");
        }
        for text in ["", "10", "s", "10x", "-1s", "1.5s", "ten seconds", "18446744073709551615h", "1s,"] {
            let error = timeouts.set("enter_timeout", text).unwrap_err().to_string();
            assert!(error.contains("Timeouts::enter_timeout"), "{error}");
        }
        let mut limits = Limits::default();
        limits.set("max_rooms", "5").unwrap();
        limits.set("max_depth", "unlimited").unwrap();
        assert_eq!(limits, Limits::default().max_rooms(5).max_depth(usize::MAX));
        assert!(limits.set("max_rooms", "-5").is_err());
        assert!(limits.set("max_cats", "5").unwrap_err().to_string().contains("max_cats"));
    }
}
