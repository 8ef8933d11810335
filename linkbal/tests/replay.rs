//! Recorded outages, decided again.
//!
//! In `linkbal/tests/replay`, `NAME.jsonl` holds the inputs of the engine in the lab, and `NAME.txt` its
//! reviewed decisions. After a wanted change of decisions,
//! `LINKBAL_BLESS=1 cargo test -p linkbal --test replay` writes the texts again; after a change of
//! the format or the inputs,
//! `cargo run -p linkbal-lab --bin linkbal-lab -- --record linkbal/tests/replay`, run as root,
//! records the outages again.

use std::{env, fs, path::Path};

use linkbal::replay::{Recording, text};

#[test]
fn recorded_outages_are_decided_as_reviewed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/replay");
    let files = fs::read_dir(&folder).expect("the folder of the recordings");
    let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    assert!(paths.len() >= 5, "{paths:?}");
    for path in paths {
        let text = fs::read_to_string(&path).expect("a recording");
        let recording = Recording::parse(&text);
        let recording = recording.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let decided = text::decisions(&recording);
        let reviewed = path.with_extension("txt");
        if env::var_os("LINKBAL_BLESS").is_some() {
            fs::write(&reviewed, &decided).expect("the decisions written");
        }
        let expected = fs::read_to_string(&reviewed).expect("reviewed decisions");
        let different = decided.lines().zip(expected.lines()).position(|(a, b)| a != b);
        let line =
            different.unwrap_or_else(|| decided.lines().count().min(expected.lines().count()));
        assert!(
            decided == expected,
            "{}, line {}: decided {:?}, expected {:?}",
            reviewed.display(),
            line + 1,
            decided.lines().nth(line),
            expected.lines().nth(line)
        );
    }
}
