use std::{collections::BTreeMap, os::unix::fs::symlink, time::Instant};

use nix::{sys::stat::Mode, unistd::mkfifo};
use proptest::prelude::*;
use tempfile::tempdir;

use super::*;

type Values = BTreeMap<String, u32>;

fn values(path: &Path) -> Values {
    load(path, "the values are lost")
}

#[test]
fn only_regular_files_of_a_fair_size_are_read() {
    let folder = tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    mkfifo(&at("pipe"), Mode::S_IRWXU).expect("a pipe");
    symlink("/dev/zero", at("zero")).expect("a link");
    symlink(at("nothing"), at("astray")).expect("a link");
    symlink(at("small"), at("link")).expect("a link");
    fs::write(at("small"), b"12345678").expect("written");
    let began = Instant::now();
    let kind = |name: &str, limit| read(&at(name), limit).expect_err(name).kind();
    assert_eq!(kind("pipe", 100), ErrorKind::InvalidInput);
    assert_eq!(kind("zero", 100), ErrorKind::InvalidInput);
    assert_eq!(kind("", 100), ErrorKind::IsADirectory);
    assert_eq!(kind("astray", 100), ErrorKind::NotFound);
    assert_eq!(kind("nothing", 100), ErrorKind::NotFound);
    assert_eq!(kind("small", 7), ErrorKind::FileTooLarge);
    assert_eq!(read(&at("small"), 8).expect("read"), b"12345678");
    assert_eq!(read_text(&at("link"), 8).expect("read"), "12345678");
    assert!(began.elapsed() < READ_TIMEOUT);
}

/// Leaves in place of a file anything that a crash, an administrator or an attacker with the rights
/// of one may leave there.
fn spoil(path: &Path, whole: &[u8], how: usize, cut: usize) {
    let _ = fs::remove_file(path);
    match how {
        0 => fs::write(path, &whole[..cut % whole.len()]),
        1 => fs::write(path, [whole, b"x"].concat()),
        2 => fs::write(path, b"\xff\0 nonsense"),
        3 => fs::write(path, br#"{"a": {"of": "a newer version"}}"#),
        4 => fs::write(path, br#"{"a": 99999999999999999999}"#),
        5 => fs::create_dir(path),
        6 => fs::create_dir(path).and_then(|()| fs::write(path.join("inside"), b"")),
        7 => symlink("/dev/zero", path),
        8 => symlink("/no/such/folder/file", path),
        9 => mkfifo(path, Mode::S_IRWXU).map_err(io::Error::from),
        _ => Ok(()),
    }
    .expect("spoilt");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_stands_there_the_next_write_works(
        known in prop::collection::btree_map("[a-z]{1,8}", any::<u32>(), 1..5),
        how in 0_usize..11,
        cut in any::<usize>(),
        of_draft in any::<bool>(),
    ) {
        let folder = tempdir().expect("a folder");
        let path = folder.path().join("values.json");
        let whole = json(&known);
        let spoilt = if of_draft { own_draft_of(&path) } else { path.clone() };
        spoil(&spoilt, &whole, how, cut);
        // Never an error, and never a part.
        prop_assert!(values(&path).is_empty());
        store(&path, whole);
        prop_assert_eq!(values(&path), known);
        remove_stored(&path);
        prop_assert!(!path.exists());
    }
}

#[test]
fn a_crash_in_the_middle_of_a_write_leaves_the_old_file() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("values.json");
    let old = Values::from([("a".into(), 1)]);
    store_json(&path, &old);
    // As far as it had come.
    fs::write(own_draft_of(&path), b"{\"a\"").expect("written");
    assert_eq!(values(&path), old);
}

#[tokio::test]
async fn what_cannot_be_written_is_written_later() {
    let folder = tempdir().expect("a folder");
    let below = folder.path().join("below");
    fs::write(&below, b"").expect("a file in the way");
    let (direct, beside) = (below.join("direct.json"), below.join("beside.json"));
    store_json(&direct, &1);
    let told = store_in_background(&beside, Some(b"2".to_vec())).await.expect("told");
    assert!(told.expect_err("in the way").contains("failed to write"));
    // The last one counts.
    store_json(&direct, &3);
    fs::remove_file(&below).expect("out of the way");
    let give_up = Instant::now() + 6 * READ_TIMEOUT;
    while !(direct.exists() && beside.exists()) {
        assert!(Instant::now() < give_up);
        tokio::task::yield_now().await;
    }
    assert_eq!(fs::read(direct).expect("there"), b"3");
    assert_eq!(fs::read(beside).expect("there"), b"2");
}
