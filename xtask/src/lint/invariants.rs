//! The layering that ARCHITECTURE.md promises, checked word by word.
//!
//! Only the code counts: comments, and tests at the end of a file or in a `tests.rs`, may name
//! anything. `use a::{b, c::d}` counts as `a::b` and `a::c::d`.

use super::{
    Violation,
    names::{Name, names},
};

/// A rule on files where names are forbidden.
struct Rule {
    /// The function that tells whether the rule applies to a file of the repository.
    applies: fn(&str) -> bool,
    /// Paths that must not be used: from the first segment on.
    roots: &'static [&'static str],
    /// Segments that must not be anywhere in a path.
    segments: &'static [&'static str],
    why: &'static str,
}

const RULES: [Rule; 4] = [
    Rule {
        applies: is_engine,
        roots: &[
            "tokio",
            "aya",
            "rtnetlink",
            "nix",
            "libc",
            "socket2",
            "std::fs",
            "std::process",
            "std::os",
            "std::thread",
            "crate::sys",
        ],
        segments: &["TcpStream", "TcpListener", "UdpSocket", "UnixStream", "UnixDatagram"],
        why: "the engine decides by values alone and does no I/O",
    },
    Rule {
        applies: is_engine,
        roots: &[],
        segments: &["Instant::now", "SystemTime", "elapsed()"],
        why: "the engine reads no clock: the time is an argument",
    },
    Rule {
        applies: |file| file.starts_with("linkbal-ebpf/src/"),
        roots: &["network_types"],
        segments: &[
            "EtherType",
            "EthHdr",
            "IpProto",
            "Ipv4Hdr",
            "Ipv6Hdr",
            "TcpHdr",
            "UdpHdr",
            "0x0800",
            "0x86dd",
            "0x86DD",
            "0x8100",
            "0x88a8",
            "0x88A8",
            "0x8864",
        ],
        why: "linkbal-ebpf is glue: headers, protocols and policy belong to linkbal-common",
    },
    Rule {
        applies: |file| is_part_of(file, "linkbal/src/") && !is_part_of(file, "linkbal/src/sys"),
        roots: &[
            "aya",
            "aya_log",
            "rtnetlink",
            "nix::mount",
            "netlink_proto",
            "netlink_sys",
            "netlink_packet_core",
            "netlink_packet_route",
            "netlink_packet_netfilter",
        ],
        segments: &["Command::new(\"nft\")", "Command::new(\"ip\")"],
        why: "only `sys` talks to the kernel's network",
    },
];

fn is_engine(file: &str) -> bool {
    is_part_of(file, "linkbal/src/engine")
}

/// Returns whether `file` is the module `MODULE.rs` or lies below `MODULE/`.
fn is_part_of(file: &str, module: &str) -> bool {
    file.strip_prefix(module)
        .is_some_and(|rest| module.ends_with('/') || rest == ".rs" || rest.starts_with('/'))
}

/// Finds names that a file must not use.
pub(super) fn check(file: &str, text: &str) -> Vec<Violation> {
    let rules: Vec<_> = RULES.iter().filter(|rule| (rule.applies)(file)).collect();
    if rules.is_empty() || !file.ends_with(".rs") || file.ends_with("/tests.rs") {
        return Vec::new();
    }
    let mut violations = Vec::new();
    for Name { line, path, .. } in names(text) {
        for rule in rules.iter().filter(|rule| rule.forbids(&path)) {
            let what = format!("`{path}`: {}", rule.why);
            violations.push(Violation { file: file.into(), line, what });
        }
    }
    violations
}

impl Rule {
    fn forbids(&self, path: &str) -> bool {
        let used = path.strip_suffix("()").unwrap_or(path);
        self.roots.iter().any(|root| format!("{used}::").starts_with(&format!("{root}::")))
            || self.segments.iter().any(|part| {
                let part = format!("::{part}::");
                [used, path].iter().any(|path| format!("::{path}::").contains(&part))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(file: &str, text: &str) -> Vec<(usize, String)> {
        let violations = check(file, text);
        let first = |what: &str| what.split('`').nth(1).unwrap_or_default().to_owned();
        violations.iter().map(|violation| (violation.line, first(&violation.what))).collect()
    }

    #[test]
    fn the_engine_does_no_io() {
        let text = "use std::{\n    net::{IpAddr, UdpSocket},\n    fs,\n};\nuse tokio::time;\n";
        let expected = [(2, "std::net::UdpSocket"), (3, "std::fs"), (5, "tokio::time")];
        let expected = expected.map(|(line, path)| (line, path.to_owned()));
        assert_eq!(found("linkbal/src/engine/health.rs", text), expected);
        assert_eq!(found("linkbal/src/engine.rs", text), expected);
        assert!(found("linkbal/src/daemon.rs", text).is_empty());
    }

    #[test]
    fn the_engine_reads_no_clock_except_in_tests() {
        let text = "fn a() { Instant::now() }\n";
        let expected = [(1, "Instant::now()".to_owned())];
        assert_eq!(found("linkbal/src/engine/window.rs", text), expected);
        let qualified = "fn a() { std::time::SystemTime::now() }\n";
        assert_eq!(found("linkbal/src/engine/window.rs", qualified).len(), 1);
        assert_eq!(found("linkbal/src/engine.rs", "let a = elapsed - since.elapsed();").len(), 1);
        let tested = format!("\n#[cfg(test)]\nmod tests {{\n{text}}}\n");
        assert!(found("linkbal/src/engine/window.rs", &tested).is_empty());
        assert!(found("linkbal/src/engine/window/tests.rs", text).is_empty());
    }

    #[test]
    fn comments_may_name_anything() {
        let text =
            "//! Unlike tokio::time, std::fs or\n/// Instant::now() // nix::mount\nfn a() {}\n";
        assert!(found("linkbal/src/engine.rs", text).is_empty());
    }

    #[test]
    fn only_sys_talks_to_the_kernel() {
        let text = "fn a() { std::process::Command::new(\"nft\") }\nuse netlink_sys::Socket;\n";
        assert_eq!(found("linkbal/src/daemon/start.rs", text).len(), 2);
        assert_eq!(found("linkbal/src/main.rs", text).len(), 2);
        assert!(found("linkbal/src/sys/nft.rs", text).is_empty());
        assert!(found("linkbal/src/sys.rs", text).is_empty());
        assert_eq!(found("linkbal/src/system.rs", text).len(), 2);
    }

    #[test]
    fn the_ebpf_crate_knows_no_headers() {
        let text = "use network_types::ip;\nconst A: u16 = 0x86dd;\nfn b(e: EtherType) {}\n";
        assert_eq!(found("linkbal-ebpf/src/main.rs", text).len(), 3);
        assert!(found("linkbal-common/src/parse.rs", text).is_empty());
    }

    #[test]
    fn a_name_is_forbidden_as_a_whole_only() {
        let text =
            "use crate::nix::a;\nuse aya_like::b;\nfn a(elapsed_ns: u64) { SystemTimeLike::c() }\n";
        assert!(found("linkbal/src/engine.rs", text).is_empty());
    }
}
