//! The state machine does no I/O and reads no clock.

use std::fs;
use std::path::Path;

#[test]
fn the_state_machine_does_no_io_and_reads_no_clock() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let machine = fs::read_dir(src.join("machine")).unwrap().map(|entry| entry.unwrap().path());
    let files = ["machine.rs", "outgoing.rs", "incoming.rs"].map(|file| src.join(file));
    for path in files.into_iter().chain(machine) {
        let code = fs::read_to_string(&path).unwrap();
        assert!(!code.contains("tokio") && !code.contains("Instant"), "{} is not pure", path.display());
    }
}
