//! The flags about logs, and the log that they describe. It goes to stderr.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

#[derive(Debug, Args)]
#[command(next_help_heading = crate::options::OPERATIONS)]
pub(crate) struct Logging {
    /// What to log: a level, or levels for targets, such as `info,tower_chat_rooms=debug`
    #[arg(long, env = "CHAT_LOG", value_name = "LEVELS", default_value = "info", value_parser = levels)]
    log: Targets,

    /// Format of the log on stderr
    #[arg(long, env = "CHAT_LOG_FORMAT", value_enum, default_value_t = Format::Text)]
    log_format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// Lines for people, with colors on a terminal (unless NO_COLOR is set)
    Text,
    /// One JSON object per line
    Json,
}

/// The crates of this server that log. Their targets begin with these names.
const CRATES: [&str; 7] = [
    "standalone",
    "tower_chat_rooms",
    "tower_chat_rooms_redis",
    "sqlx",
    "sqlx_core",
    "sqlx_postgres",
    "sqlx_sqlite",
];

impl Logging {
    /// Begins to log.
    pub(crate) fn init(&self) {
        let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let layer = match self.log_format {
            Format::Text => layer.with_ansi(has_colors()).boxed(),
            Format::Json => layer.json().flatten_event(true).boxed(),
        };
        // The crate's line about its settings would repeat the options of this server in other words.
        let mut levels = self.log.clone();
        let is_named = self.log.iter().any(|(target, _)| target.starts_with("tower_chat_rooms"));
        if levels.default_level() == Some(LevelFilter::INFO) && !is_named {
            levels = levels.with_target("tower_chat_rooms::builder", LevelFilter::WARN);
        }
        tracing_subscriber::registry().with(layer).with(levels).init();
        for (target, _) in self.log.iter().filter(|(target, _)| !is_known(target)) {
            let known = CRATES.join(", ");
            tracing::warn!(
                "--log: no crate of this server logs under `{target}`; targets begin with {known}"
            );
        }
    }
}

/// Whether a crate may log under a target. A level for a target applies to all targets that begin with its name.
fn is_known(target: &str) -> bool {
    CRATES.iter().any(|name| {
        name.starts_with(target)
            || target.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    })
}

fn has_colors() -> bool {
    let is_off = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !is_off
}

/// Parses levels. A word that is not a level would otherwise be a target, and nothing else would be logged.
fn levels(text: &str) -> Result<Targets, String> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    for part in &parts {
        let level = part.rsplit_once('=').map_or(*part, |(_, level)| level);
        if level.is_empty() || level.parse::<LevelFilter>().is_err() {
            return Err(format!(
                "{level:?} is not a level; use off, error, warn, info, debug or trace, or add levels for targets, such \
                 as `info,tower_chat_rooms=debug`"
            ));
        }
    }
    parts.join(",").parse().map_err(|error| format!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_for_everything_or_for_targets() {
        for text in ["info", "WARN", "off", "warn,tower_chat_rooms=debug", "info, standalone=trace", "3"] {
            assert!(levels(text).is_ok(), "{text}");
        }
        let targets = levels("warn, tower_chat_rooms=debug").expect("two levels");
        assert!(targets.would_enable("tower_chat_rooms::http", &tracing::Level::DEBUG));
        assert!(!targets.would_enable("standalone", &tracing::Level::INFO));
    }

    #[test]
    fn targets_of_no_crate_are_unknown() {
        for target in ["tower_chat_rooms", "tower_chat_rooms::http", "tower", "sqlx::query", "standalone"] {
            assert!(is_known(target), "{target}");
        }
        for target in
            ["tower_chat_room::http", "tower-chat-rooms", "typo_target", "standalones", "Standalone"]
        {
            assert!(!is_known(target), "{target}");
        }
    }

    #[test]
    fn mistyped_levels_are_refused() {
        for (text, wrong) in [
            ("inof", "\"inof\""),
            ("", "\"\""),
            ("info,", "\"\""),
            ("tower_chat_rooms", "\"tower_chat_rooms\""),
            ("info,tower_chat_rooms=", "\"\""),
            ("info,tower_chat_rooms=debgu", "\"debgu\""),
        ] {
            let error = levels(text).expect_err("it is mistyped");
            assert!(error.starts_with(wrong), "{text}: {error}");
        }
    }
}
