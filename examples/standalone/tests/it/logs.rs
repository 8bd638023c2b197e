//! The log: its format, its levels, and its first and last lines.

use std::process::Stdio;

use serde_json::Value;

use crate::standalone::Standalone;
use crate::upgrade;

#[tokio::test]
async fn a_mistyped_level_is_refused() {
    for (flag, variable) in [(Some("inof"), None), (None, Some("info,tower_chat_rooms=debgu"))] {
        let mut command = Standalone::command(&["--listen", "127.0.0.1:0"]);
        command.args(flag.map(|flag| format!("--log={flag}")));
        command.envs(variable.map(|value| ("CHAT_LOG", value)));
        let output = command.output().await.expect("it can be run");
        assert!(!output.status.success());
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("is not a level"), "{error}");
    }
}

/// All lines of the log of a server with one WebSocket, from its start to its end.
async fn log(flags: &[&str]) -> Vec<String> {
    let mut command = Standalone::command(&["--listen", "127.0.0.1:0"]);
    let mut server = Standalone::launch(command.args(flags).stderr(Stdio::piped())).await;
    let _open = upgrade(&server).await;
    server.signal("TERM");
    let mut lines = Vec::new();
    while let Some(line) = server.next_log().await {
        lines.push(line);
    }
    assert!(server.wait().await.success());
    lines
}

#[tokio::test]
async fn each_line_is_a_json_object_if_you_like() {
    let lines = log(&["--log-format", "json", "--max-rooms", "7"]).await;
    let events: Vec<Value> =
        lines.iter().map(|line| serde_json::from_str(line).expect("the line is JSON")).collect();
    let messages: Vec<_> = events.iter().filter_map(|event| event["message"].as_str()).collect();
    assert_eq!(messages, ["started", "chat rooms shut down; all connections are closed"]);
    assert!(
        events[0]["listen"].as_str().is_some_and(|url| url.starts_with("http://127.0.0.1:")),
        "{lines:?}"
    );
    assert_eq!((&events[1]["connections"], &events[1]["level"]), (&Value::from(1), &Value::from("INFO")));
}

/// The options of the first line of the log.
async fn logged_options(flags: &[&str], variables: &[(&str, &str)]) -> String {
    let mut command = Standalone::command(&["--listen", "127.0.0.1:0", "--log-format=json"]);
    let command = command.args(flags).envs(variables.iter().copied()).stderr(Stdio::piped());
    let mut server = Standalone::launch(command).await;
    let line = server.next_log().await.expect("it logs its start");
    let event: Value = serde_json::from_str(&line).expect("the line is JSON");
    assert_eq!((&event["message"], &event["auth"]), (&Value::from("started"), &Value::from("none")));
    event["options"].as_str().expect("the options are text").to_owned()
}

#[tokio::test]
async fn the_first_line_has_the_options_that_were_given() {
    let always = "--listen=127.0.0.1:0";
    assert_eq!(logged_options(&[], &[]).await, format!("{always} --log-format=json"));
    let token = "a-token-of-more-than-sixteen";
    let flags = ["--max-rooms", "7", "--admin-listen=127.0.0.1:0"];
    let options = logged_options(&flags, &[("CHAT_ADMIN_TOKEN", token), ("CHAT_HISTORY", "5")]).await;
    for part in [always, "--max-rooms=7", "CHAT_HISTORY=5", "CHAT_ADMIN_TOKEN=(hidden)"] {
        assert!(options.contains(part), "{options}");
    }
    assert!(!options.contains(token) && !options.contains("resume"), "{options}");
}

#[tokio::test]
async fn a_mistyped_target_is_reported() {
    let lines = log(&["--log", "info,tower_chat_room::http=debug"]).await;
    let line = lines.first().expect("there is a line");
    assert!(line.contains("WARN") && line.contains("`tower_chat_room::http`"), "{line}");
    assert!(line.contains("targets begin with standalone, tower_chat_rooms"), "{line}");
    let lines = log(&["--log", "info,typo_target=debug"]).await;
    assert!(!lines.iter().any(|line| line.contains("changed_options")), "{lines:?}");
}

#[tokio::test]
async fn the_text_has_no_colors_in_a_pipe() {
    let lines = log(&["--log", "debug"]).await;
    assert!(lines.iter().any(|line| line.contains("connection closed") && line.contains("server shutdown")));
    assert!(!lines.iter().any(|line| line.contains('\u{1b}')), "{lines:?}");
}

#[tokio::test]
async fn an_error_at_the_start_is_a_line_of_the_log() {
    let flags = ["--log-format", "json", "--max-message-bytes", "2097152"];
    let output = Standalone::command(&flags).output().await.expect("it can be run");
    assert!(!output.status.success());
    let line = String::from_utf8_lossy(&output.stderr);
    let event: Value = serde_json::from_str(&line).expect("one JSON object");
    assert_eq!(event["level"], "ERROR");
    assert!(event["message"].as_str().is_some_and(|text| text.contains("--max-queue-bytes")), "{line}");
}
