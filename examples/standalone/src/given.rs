//! Which options were given, for the log.

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

/// The options that were given as flags or in the environment, without secrets: the values that `--help` hides.
pub(crate) fn given(command: &Command, matches: &ArgMatches) -> String {
    let mut given = Vec::new();
    for arg in command.get_arguments() {
        let name = match (matches.value_source(arg.get_id().as_str()), arg.get_long(), arg.get_env()) {
            (Some(ValueSource::CommandLine), Some(long), _) => format!("--{long}"),
            (Some(ValueSource::EnvVariable), _, Some(variable)) => variable.to_string_lossy().into_owned(),
            _ => continue,
        };
        let values = matches.get_raw(arg.get_id().as_str()).into_iter().flatten();
        let values: Vec<_> = values.map(|value| value.to_string_lossy()).collect();
        let value = if arg.is_hide_env_values_set() { "(hidden)".to_owned() } else { values.join(",") };
        given.push(format!("{name}={value}"));
    }
    given.join(" ")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::options::Options;

    #[test]
    fn only_what_was_given_is_listed_and_no_secret() {
        let flags = [
            "standalone",
            "--max-rooms=7",
            "--transient-events=a,b",
            "--redis=redis://:secret@h",
            "--jwt-secret",
            "secret",
        ];
        let command = Options::command();
        let matches = command.clone().try_get_matches_from(flags).expect("the flags exist");
        assert_eq!(
            given(&command, &matches),
            "--jwt-secret=(hidden) --transient-events=a,b --redis=(hidden) --max-rooms=7"
        );
    }

    #[test]
    fn all_secrets_are_hidden() {
        let is_secret = |name: &str| ["secret", "token", "redis", "store"].contains(&name);
        for arg in Options::command().get_arguments() {
            let name = arg.get_long().expect("all options are long");
            let last = name.rsplit('-').next().unwrap_or(name);
            if is_secret(last) {
                assert!(arg.is_hide_env_values_set(), "--{name}");
            }
        }
    }
}
