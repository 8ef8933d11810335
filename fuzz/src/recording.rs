//! Any text as a recording: a valid one can be played.

use linkbal::replay::{Recording, text};

/// Plays a recording, in full and in short.
pub fn run(data: &[u8]) {
    let Ok(written) = std::str::from_utf8(data) else { return };
    match Recording::parse(written) {
        Ok(recording) => {
            let all = text::everything(&recording);
            let again = text::everything(&recording);
            assert_eq!(all, again, "the engine is a function of its inputs");
            let _ = text::decisions(&recording);
        }
        Err(bad) => assert!(bad.line >= 1 && !bad.to_string().is_empty()),
    }
}
