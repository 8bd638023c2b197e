//! The crate's own options as flags, generated from its tables.

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use tower_chat_rooms::{BuildError, ChatRoomsBuilder, Limits, OptionInfo, RateLimits, Recovery, Timeouts};

use crate::options::TIMEOUTS;

/// The crate's tables, with the sections of the help that they belong to.
fn sections() -> [(&'static str, &'static [OptionInfo]); 4] {
    [
        ("Reconnection", Recovery::options()),
        (TIMEOUTS, Timeouts::options()),
        ("Limits", Limits::options()),
        ("Rates", RateLimits::options()),
    ]
}

/// Defaults that differ from the crate's: the page of this server resumes.
const DEFAULTS: [(&str, &str); 2] = [("resume_window", "10s"), ("history", "100")];

/// Options where zero means zero, and how to write it for them. For all others it would allow nothing, so it stands
/// for no limit.
const ZEROS: [(&str, &str); 5] = [
    ("max_room_id_bytes", "0"),
    ("max_room_id_chars", "0"),
    ("resume_window", "0s"),
    ("history", "0"),
    ("token_warning", "0s"),
];

/// Also limits the sockets that are not WebSockets yet, which the chat rooms do not see.
const MAX_PER_IP: &str = "max_connections_per_ip";

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Settings {
    max_connections_per_ip: usize,
    limits: Limits,
    rate_limits: RateLimits,
    timeouts: Timeouts,
    recovery: Recovery,
}

impl Settings {
    pub(crate) fn max_connections_per_ip(&self) -> usize {
        self.max_connections_per_ip
    }

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
        sections().into_iter().fold(command, |command, (heading, options)| {
            command.args(options.iter().map(|option| flag(option).help_heading(heading)))
        })
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
        if let Some(text) = matches.get_one::<String>(MAX_PER_IP) {
            // `unlimited` is not a number, and everything else that is not one is refused below.
            self.max_connections_per_ip = read_zero(MAX_PER_IP, text).parse().unwrap_or(usize::MAX);
        }
        set(Limits::options(), matches, |name, text| self.limits.set(name, text))?;
        set(RateLimits::options(), matches, |name, text| self.rate_limits.set(name, text))?;
        set(Timeouts::options(), matches, |name, text| self.timeouts.set(name, text))?;
        set(Recovery::options(), matches, |name, text| self.recovery.set(name, text))
    }
}

fn all_options() -> impl Iterator<Item = &'static OptionInfo> {
    sections().into_iter().flat_map(|(_, options)| options)
}

/// Flags for settings of the crate that are not in its tables.
const OTHER_FLAGS: [(&str, &str); 8] = [
    ("Origins::any()", "--allow-origin=any"),
    ("the interval of ChatRoomsBuilder::heartbeat", "--heartbeat"),
    ("the timeout of ChatRoomsBuilder::heartbeat", "--heartbeat-timeout"),
    ("the interval of ChatRoomsBuilder::v1_heartbeat", "--v1-heartbeat"),
    ("the timeout of ChatRoomsBuilder::v1_heartbeat", "--v1-heartbeat-timeout"),
    ("ChatRoomsBuilder::transient_events", "--transient-events"),
    ("ChatRoomsBuilder::store", "--store"),
    ("ChatRoomsBuilder::broker", "--redis"),
];

/// The text of one of the crate's errors, with flags in place of the crate's settings.
pub(crate) fn with_flags(error: &BuildError) -> String {
    let mut text = error.to_string();
    for (setting, flag) in OTHER_FLAGS {
        text = text.replace(setting, flag);
    }
    let is_in_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    text.split_inclusive(|c| !is_in_name(c))
        .map(|part| {
            let word = part.trim_end_matches(|c| !is_in_name(c));
            let name = word.rsplit("::").next().unwrap_or(word);
            // An option such as `history` may also occur as an ordinary word.
            let is_option = word.contains(['_', ':']) && all_options().any(|option| option.name() == name);
            if is_option { part.replace(word, &long_flag(name)) } else { part.to_owned() }
        })
        .collect()
}

fn long_flag(name: &str) -> String {
    format!("--{}", name.replace('_', "-"))
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
            let text = read_zero(option.name(), text);
            set(option.name(), text)
                .map_err(|e| clap::Error::raw(ErrorKind::ValueValidation, with_flags(&e)))?;
        }
    }
    Ok(())
}

/// What a zero stands for.
fn read_zero<'a>(name: &str, text: &'a str) -> &'a str {
    if !matches!(text.trim(), "0" | "0ms" | "0s") {
        return text;
    }
    ZEROS.iter().find(|(zero, _)| *zero == name).map_or("unlimited", |(_, text)| text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tower_chat_rooms::{ChatRooms, Heartbeat};

    use super::*;

    /// Every option's flag with this value.
    fn parse(value: fn(&OptionInfo) -> &'static str) -> Settings {
        let flags = all_options().map(|o| format!("{}={}", long_flag(o.name()), value(o)));
        let command = Settings::augment_args(Command::new("standalone").no_binary_name(true));
        let matches = command.try_get_matches_from(flags).expect("the flags exist");
        Settings::from_arg_matches(&matches).expect("the values are valid")
    }

    #[test]
    fn zero_is_no_limit_where_it_would_allow_nothing() {
        // This limit can't be removed, so 0 is not allowed.
        let zero = |option: &OptionInfo| if option.name() == "max_depth" { "64" } else { "0" };
        let settings = parse(zero);
        assert_eq!(
            settings,
            parse(|option| match option.name() {
                "max_depth" => "64",
                name => read_zero(name, "0s"),
            })
        );
        assert_eq!(settings.max_connections_per_ip(), usize::MAX);
        assert_eq!(settings.recovery, Recovery::default());
        settings.apply(ChatRooms::builder()).build().expect("no limits contradict each other");
    }

    /// The printed error for settings that contradict each other.
    fn contradiction(flags: &[&str]) -> String {
        let command = Settings::augment_args(Command::new("standalone").no_binary_name(true));
        let matches = command.try_get_matches_from(flags).expect("the flags exist");
        let settings = Settings::from_arg_matches(&matches).expect("the values are valid");
        with_flags(&settings.apply(ChatRooms::builder()).build().expect_err("they contradict each other"))
    }

    #[test]
    fn errors_name_flags() {
        for (flags, named) in [
            (
                vec!["--max-message-bytes=2097152"],
                vec!["--max-queue-bytes is", "of --max-message-bytes (2097152)"],
            ),
            (
                vec!["--max-message-bytes=200"],
                vec!["--max-message-bytes is", "--max-name-bytes (128)", "--max-room-id-bytes (128)"],
            ),
            (
                vec!["--max-bytes-per-second=1000000"],
                vec!["--max-queue-bytes is", "--max-bytes-per-second (1000000)"],
            ),
            (
                vec!["--max-bytes-per-second=1000"],
                vec!["--max-bytes-per-second is", "--max-message-bytes (65536)"],
            ),
            (vec!["--max-depth=0"], vec!["--max-depth is", "at most 127"]),
        ] {
            let error = contradiction(&flags);
            assert!(named.iter().all(|text| error.contains(text)), "{error}");
            assert!(!error.contains("::") && !error.contains('_'), "{error}");
        }
    }

    #[test]
    fn errors_about_heartbeats_name_flags() {
        let (short, long) = (Duration::from_millis(1), Duration::from_secs(1));
        let mut flags = Vec::new();
        for heartbeat in [Heartbeat::every(short), Heartbeat::every(long).with_timeout(long * 2)] {
            for builder in
                [ChatRooms::builder().heartbeat(heartbeat), ChatRooms::builder().v1_heartbeat(heartbeat)]
            {
                let error = with_flags(&builder.build().expect_err("the heartbeat is not valid"));
                flags.push(error.split(' ').next().unwrap_or_default().to_owned());
            }
        }
        assert_eq!(flags, ["--heartbeat", "--v1-heartbeat", "--heartbeat-timeout", "--v1-heartbeat-timeout"]);
    }

    #[test]
    fn errors_of_values_name_flags() {
        let command = Settings::augment_args(Command::new("standalone").no_binary_name(true));
        let matches = command.try_get_matches_from(["--write-timeout=soon"]).expect("the flag exists");
        let error = Settings::from_arg_matches(&matches).expect_err("it is not a time").to_string();
        assert!(error.contains("--write-timeout is \"soon\"; expected a time"), "{error}");
    }

    #[test]
    fn defaults_are_valid() {
        let matches = Settings::augment_args(Command::new("standalone")).get_matches_from(["standalone"]);
        let settings = Settings::from_arg_matches(&matches).expect("the defaults are valid");
        assert_eq!((settings.max_connections_per_ip(), settings.limits), (256, Limits::default()));
    }
}
