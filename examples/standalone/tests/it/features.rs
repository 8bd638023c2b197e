//! Every build knows all flags. One without a cargo feature refuses those that need it.

use crate::fails;
use crate::standalone::Standalone;

/// Flags that need a cargo feature, as the variable, the flag and a value.
const FLAGS: [(&str, bool, &str, &str, &str); 5] = [
    ("redis", cfg!(feature = "redis"), "CHAT_REDIS", "--redis", "redis://127.0.0.1:1"),
    ("redis-tls", cfg!(feature = "redis-tls"), "CHAT_REDIS", "--redis", "rediss://127.0.0.1:1"),
    ("redis-tls", cfg!(feature = "redis-tls"), "CHAT_REDIS", "--redis", "rediss+cluster://127.0.0.1:1"),
    ("store", cfg!(feature = "store"), "CHAT_STORE", "--store", "sqlite::memory:"),
    ("jwt", cfg!(feature = "jwt"), "CHAT_JWT_SECRET", "--jwt-secret", "a-secret-of-more-than-32-characters"),
];

#[tokio::test]
async fn flags_without_their_feature_are_refused() {
    for (feature, is_built, variable, flag, value) in FLAGS {
        if is_built {
            continue;
        }
        // `rediss` needs `redis` first.
        let feature = if cfg!(feature = "redis") || feature != "redis-tls" { feature } else { "redis" };
        let hint = format!("build it with `--features {feature}`");
        let mut with_flag = Standalone::command(&["--listen", "127.0.0.1:0", flag, value]);
        let mut with_variable = Standalone::command(&["--listen", "127.0.0.1:0"]);
        for command in [&mut with_flag, with_variable.env(variable, value)] {
            let output = command.output().await.expect("it can be run");
            let error = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{flag} {value}: {error}");
            assert!(error.contains("this build") && error.contains(&hint), "{flag} {value}: {error}");
        }
    }
}

#[tokio::test]
async fn flags_about_nodes_need_redis() {
    for (flag, value) in [("--redis-prefix", "talk"), ("--redis-ca", "ca.pem"), ("--node", "node1")] {
        let error = fails(&["--listen", "127.0.0.1:0", flag, value]).await;
        assert!(error.contains("--redis <URL>"), "{flag}: {error}");
    }
    let mut command = Standalone::command(&["--listen", "127.0.0.1:0"]);
    let output = command.env("CHAT_NODE", "node1").output().await.expect("it can be run");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("--redis <URL>"), "{error}");
}

#[tokio::test]
async fn the_help_has_sections() {
    let output = Standalone::command(&["--help"]).output().await.expect("it can be run");
    let help = String::from_utf8_lossy(&output.stdout);
    let is_heading = |line: &&str| line.ends_with(':') && !line.starts_with(' ');
    let headings: Vec<_> = help.lines().filter(is_heading).collect();
    // The rest of a heading says which feature is missing.
    let names: Vec<_> =
        headings.iter().filter_map(|line| line.split([':', '(']).next()).map(str::trim).collect();
    assert_eq!(
        names,
        [
            "Options",
            "Listening",
            "JSON Web Tokens",
            "Who may connect",
            "Rooms and messages",
            "Stored messages",
            "Several nodes",
            "Operations",
            "Heartbeats",
            "Timeouts",
            "Reconnection",
            "Limits",
            "Rates",
        ]
    );
    for (hint, is_built, section) in [
        ("`--features jwt`", cfg!(feature = "jwt"), "JSON Web Tokens"),
        ("`--features store`", cfg!(feature = "store"), "Stored messages"),
        ("`--features redis`", cfg!(feature = "redis"), "Several nodes"),
        ("redis-tls`", cfg!(feature = "redis-tls"), "Several nodes"),
    ] {
        let heading = headings.iter().find(|line| line.starts_with(section)).expect("the section exists");
        assert_eq!(heading.contains(hint), !is_built, "{hint}: {heading}");
    }
    let options = help.split("\nListening:").next().and_then(|help| help.split("\nOptions:").nth(1));
    let others: Vec<_> =
        options.into_iter().flat_map(str::lines).filter(|line| line.contains("--")).collect();
    assert_eq!(others.len(), 2, "only --help and --version have no section: {others:?}");
}

#[tokio::test]
async fn the_help_shows_no_password() {
    let mut command = Standalone::command(&["--help"]);
    command.env("CHAT_REDIS", "redis://:secret@h").env("CHAT_STORE", "postgres://ann:secret@h/chat");
    let output = command.output().await.expect("it can be run");
    let help = String::from_utf8_lossy(&output.stdout);
    assert!(help.contains("CHAT_REDIS") && help.contains("CHAT_STORE"), "{help}");
    assert!(!help.contains("secret@"), "{help}");
}
