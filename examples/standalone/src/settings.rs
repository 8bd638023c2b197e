//! The crate's own options as flags, generated from its tables.

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use tower_chat_rooms::{BuildError, ChatRoomsBuilder, Limits, OptionInfo, RateLimits, Recovery, Timeouts};

/// Defaults that differ from the crate's: the page of this server resumes.
const DEFAULTS: [(&str, &str); 2] = [("resume_window", "10s"), ("history", "100")];

#[derive(Debug, Default)]
pub(crate) struct Settings {
    limits: Limits,
    rate_limits: RateLimits,
    timeouts: Timeouts,
    recovery: Recovery,
}

impl Settings {
    pub(crate) fn apply(&self, builder: ChatRoomsBuilder) -> ChatRoomsBuilder {
        builder
            .limits(self.limits.clone())
            .rate_limits(self.rate_limits.clone())
            .timeouts(self.timeouts.clone())
            .recovery(self.recovery.clone())
    }
}

impl Args for Settings {
    fn augment_args(command: Command) -> Command {
        let tables = [Limits::options(), RateLimits::options(), Timeouts::options(), Recovery::options()];
        command.args(tables.into_iter().flatten().map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Settings::augment_args(command)
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Settings, clap::Error> {
        let mut settings = Settings::default();
        settings.update_from_arg_matches(matches)?;
        Ok(settings)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        set(Limits::options(), matches, |name, text| self.limits.set(name, text))?;
        set(RateLimits::options(), matches, |name, text| self.rate_limits.set(name, text))?;
        set(Timeouts::options(), matches, |name, text| self.timeouts.set(name, text))?;
        set(Recovery::options(), matches, |name, text| self.recovery.set(name, text))
    }
}

/// The option `max_rooms` is the flag `--max-rooms` and the variable `CHAT_MAX_ROOMS`.
fn flag(option: &'static OptionInfo) -> Arg {
    let own = DEFAULTS.iter().find(|(name, _)| *name == option.name());
    Arg::new(option.name())
        .long(option.name().replace('_', "-"))
        .value_name("VALUE")
        .env(format!("CHAT_{}", option.name().to_uppercase()))
        .help(option.summary())
        .default_value(own.map_or_else(|| option.default_text(), |(_, text)| (*text).to_owned()))
}

fn set(
    options: &[OptionInfo],
    matches: &ArgMatches,
    mut set: impl FnMut(&str, &str) -> Result<(), BuildError>,
) -> Result<(), clap::Error> {
    for option in options {
        if let Some(text) = matches.get_one::<String>(option.name()) {
            set(option.name(), text).map_err(|e| clap::Error::raw(ErrorKind::ValueValidation, e))?;
        }
    }
    Ok(())
}
