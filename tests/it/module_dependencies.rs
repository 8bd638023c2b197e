//! The crate's layers: a file uses only its own layer and those below.

use std::fs;
use std::path::Path;

/// From top to bottom. In a layer of several modules, each may use those after it.
const LAYERS: [&[&str]; 15] = [
    &["lib", "models", "bench"],
    &["testing"],
    &["admin", "chat_rooms", "builder", "redis"],
    &["http", "browser"],
    &["connection"],
    &["engine"],
    &["session"],
    &["admission", "socket"],
    &["delivery"],
    &["broker", "room"],
    &["context", "tasks"],
    &["hooks", "store"],
    &["metrics", "stats"],
    &["protocol"],
    &["health", "clock", "config", "ids", "error", "log_limit", "progress", "sync"],
];

fn rank(module: &str) -> (usize, usize) {
    for (layer, modules) in LAYERS.iter().enumerate() {
        if let Some(at) = modules.iter().position(|m| *m == module) {
            return (layer, at);
        }
    }
    panic!("{module} is in no layer; add it to one in tests/it/module_dependencies.rs");
}

/// Calls a function with the path and the text of each source file.
fn visit(dir: &Path, check: &mut impl FnMut(&Path, &str)) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            visit(&path, check);
        } else if path.extension().is_some_and(|e| e == "rs") {
            check(&path, &fs::read_to_string(&path).unwrap());
        }
    }
}

fn src() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

#[test]
fn files_use_only_their_own_layer_and_those_below() {
    let mut seen = 0;
    visit(&src(), &mut |path, text| {
        let inside = path.strip_prefix(src()).unwrap();
        let own = inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
        for (n, line) in text.lines().enumerate() {
            for used in line.split("crate::").skip(1).filter(|_| !line.trim_start().starts_with("//")) {
                let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                assert!(
                    rank(own) <= rank(&used),
                    "{}:{}: {own} is in a layer below {used}",
                    inside.display(),
                    n + 1
                );
                seen += 1;
            }
        }
    });
    assert!(seen > 50, "the test finds no `use crate::`");
}

#[test]
fn pure_layers_name_no_io_and_each_dependency_has_one_place() {
    visit(&src(), &mut |path, text| {
        let inside = path.strip_prefix(src()).unwrap().to_str().unwrap();
        // Compiled for tests only.
        if ["models/", "broker/conformance/", "testing/"].iter().any(|tests| inside.starts_with(tests)) {
            return;
        }
        let code = text.split("#[cfg(test)]").next().unwrap();
        let tungstenite = code.contains("tungstenite") && !inside.ends_with("bench_cases.rs");
        let allowed = inside.starts_with("socket/") || inside == "protocol/frame.rs";
        // The handshake's key is computed with tungstenite, and lib.rs documents the dependencies.
        let key = inside == "http/handshake.rs" || inside == "lib.rs";
        assert!(!tungstenite || allowed || key, "{inside} names tungstenite");
        let of_jwt = inside.starts_with("hooks/jwt/") || inside == "lib.rs";
        assert!(!code.contains("jsonwebtoken") || of_jwt, "{inside} names jsonwebtoken");
        if inside.starts_with("room/") {
            for name in ["crate::protocol", "crate::hooks", "serde"] {
                assert!(!code.contains(name), "{inside} names {name}");
            }
        }
        if ["room/", "protocol/", "broker/"].iter().any(|pure| inside.starts_with(pure))
            && !inside.contains("conformance")
        {
            assert!(!code.contains("tokio::") && !code.contains("Instant"), "{inside} is not pure");
        }
    });
}
