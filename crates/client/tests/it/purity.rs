//! The state machine does no I/O and reads no clock.

use std::fs;
use std::path::{Path, PathBuf};

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_in(&path) } else { vec![path] }).collect()
}

#[test]
fn the_state_machine_does_no_io_and_reads_no_clock() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = [
        "body.rs",
        "machine.rs",
        "outgoing.rs",
        "incoming.rs",
        "presence.rs",
        "retry_hint.rs",
        "token_bucket.rs",
    ];
    let folders = ["incoming", "machine", "outgoing"].map(|folder| files_in(&src.join(folder)));
    for path in files.map(|file| src.join(file)).into_iter().chain(folders.into_iter().flatten()) {
        let code = fs::read_to_string(&path).unwrap();
        assert!(!code.contains("tokio") && !code.contains("Instant"), "{} is not pure", path.display());
    }
}
