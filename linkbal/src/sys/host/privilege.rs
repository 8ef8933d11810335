//! A check of the privileges of this process, before anything fails for want of them.

use std::{env, ffi::OsString, fs};

use anyhow::{Context as _, Result, bail, ensure};
use nix::unistd::geteuid;

/// Capabilities by number (include/uapi/linux/capability.h), the purpose of each, and another one
/// that includes it.
const NEEDED: [(u32, &str, &str, Option<u32>); 4] = [
    (NET_ADMIN, "NET_ADMIN", "to change routes, ip rules and nftables", None),
    (13, "NET_RAW", "to probe by a device", None),
    (39, "BPF", "to load eBPF programs", Some(SYS_ADMIN)),
    (38, "PERFMON", "to load eBPF programs that look into packets", Some(SYS_ADMIN)),
];
const NET_ADMIN: u32 = 12;
const SYS_ADMIN: u32 = 21;

/// The mapping of the first user namespace: every user id is mapped to itself.
const IDENTITY: [&str; 3] = ["0", "0", "4294967295"];

/// Checks the user namespace and the capabilities.
///
/// # Errors
///
/// With what is missing, what for, and what to do.
pub fn check() -> Result<()> {
    let read = |path: &str| {
        fs::read_to_string(path)
            .with_context(|| format!("failed to read {path}: is /proc mounted?"))
    };
    match complaint(&read("/proc/self/status")?, &read("/proc/self/uid_map")?) {
        Some(complaint) => bail!("{complaint}"),
        None => Ok(()),
    }
}

/// Checks early, and in one sentence, that a verb which looks deep into the kernel or changes it may
/// do so: everything that it would be refused is for root alone.
///
/// # Errors
///
/// With the command to type instead.
pub fn require_root() -> Result<()> {
    // What cannot be read is found out later.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let may = held(&status).is_none_or(|held| held >> NET_ADMIN & 1 == 1);
    // Root without capabilities, as in a container, gets to know which.
    ensure!(may || geteuid().is_root(), "{}", only_root());
    Ok(())
}

/// Returns the sentence for whoever is not root.
pub fn only_root() -> String {
    format!("only root may do this: run `sudo {}`", command_line(env::args_os()))
}

/// Returns a command line as it can be typed again.
fn command_line(words: impl Iterator<Item = OsString>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let quoted = |word: OsString| {
        let word = word.to_string_lossy().into_owned();
        let safe = !word.is_empty() && word.chars().all(plain);
        if safe { word } else { format!("'{}'", word.replace('\'', r"'\''")) }
    };
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

/// Returns the effective capabilities, as bits.
fn held(status: &str) -> Option<u64> {
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(held.trim(), 16).ok()
}

/// Returns what is missing, from the texts of proc_pid_status(5) and proc_pid_uid_map(5).
fn complaint(status: &str, uid_map: &str) -> Option<String> {
    if !uid_map.split_whitespace().eq(IDENTITY) {
        return Some(
            "this is a user namespace, as of a rootless container: the kernel loads no \
             eBPF programs there; run linkbal as root of the machine itself, or in a container \
             without a user namespace"
                .into(),
        );
    }
    let held = held(status)?;
    let has = |number: u32| held >> number & 1 == 1;
    let missing: Vec<_> = NEEDED
        .iter()
        .filter(|(number, .., other)| !has(*number) && !other.is_some_and(has))
        .collect();
    if missing.is_empty() {
        return None;
    }
    let named: Vec<_> =
        missing.iter().map(|(_, name, why, _)| format!("CAP_{name} {why}")).collect();
    let options: Vec<_> = missing.iter().map(|(_, name, ..)| format!("--cap-add {name}")).collect();
    Some(format!(
        "linkbal lacks {}; run it as root, in a container with {}, or by a systemd unit whose \
         CapabilityBoundingSet has them",
        named.join(", and "),
        options.join(" ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "         0          0 4294967295\n";

    #[test]
    fn all_that_is_missing_is_named() {
        let with = |held: u64| complaint(&format!("Name:\tx\nCapEff:\t{held:016x}\n"), FIRST);
        let bits = |numbers: &[u32]| numbers.iter().fold(0, |all, number| all | 1 << number);
        assert_eq!(with(bits(&[12, 13, 38, 39])), None);
        assert_eq!(with(bits(&[12, 13, 21])), None, "CAP_SYS_ADMIN holds both");
        let text = with(bits(&[13])).expect("a complaint");
        for words in ["CAP_NET_ADMIN to", "CAP_BPF to", "CAP_PERFMON to", "--cap-add BPF"] {
            assert!(text.contains(words), "{words} in {text}");
        }
        assert!(!text.contains("NET_RAW"));
    }

    #[test]
    fn a_command_can_be_typed_again() {
        let line = |words: &[&str]| command_line(words.iter().map(|word| (*word).into()));
        assert_eq!(line(&["linkbal", "status", "--json"]), "linkbal status --json");
        assert_eq!(
            line(&["linkbal", "disable", "a b", "it's", ""]),
            r"linkbal disable 'a b' 'it'\''s' ''"
        );
    }

    #[test]
    fn a_user_namespace_is_named() {
        let status = "CapEff:\tffffffffffffffff\n";
        let text = complaint(status, "         0       1000          1\n").expect("a complaint");
        assert!(text.contains("user namespace"));
        assert_eq!(complaint(status, FIRST), None);
    }
}
