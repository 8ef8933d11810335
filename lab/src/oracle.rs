//! The state of the kernel, read by tools that share no code with linkbal.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::namespace::Namespace;

/// Sysctls which change by themselves or cannot be compared.
const VOLATILE: [&str; 2] = ["nf_conntrack_count", "fib_sync_mem"];

/// Returns the output of `ip -j ARGS`; for empty output, `[]`.
///
/// # Errors
/// When `ip` fails or prints no JSON.
pub fn ip_json(namespace: &Namespace, args: &[&str]) -> Result<Value> {
    json(namespace, "ip", &[&["-j"], args].concat())
}

/// Returns the output of `bpftool -j ARGS`; programs, maps and links are those of the whole
/// machine.
///
/// # Errors
/// When `bpftool` fails or prints no JSON.
pub fn bpftool_json(namespace: &Namespace, args: &[&str]) -> Result<Value> {
    json(namespace, "bpftool", &[&["-j"], args].concat())
}

/// Returns the whole rule set as `nft -j list ruleset` prints it.
///
/// # Errors
/// When `nft` fails or prints no JSON.
pub fn nft_json(namespace: &Namespace) -> Result<Value> {
    json(namespace, "nft", &["-j", "list", "ruleset"])
}

fn json(namespace: &Namespace, program: &str, args: &[&str]) -> Result<Value> {
    let text = namespace.run(program, args)?;
    if text.trim().is_empty() {
        return Ok(Value::Array(Vec::new()));
    }
    serde_json::from_str(&text).with_context(|| format!("failed to parse output of {program}"))
}

/// Returns the value of a sysctl, named with dots: `net.ipv4.ip_forward`.
///
/// # Errors
/// When there is no such sysctl.
pub fn sysctl(namespace: &Namespace, key: &str) -> Result<String> {
    namespace.sysctl(key)
}

/// Returns whether an interface has a carrier.
///
/// # Errors
/// When there is no such interface.
pub fn has_carrier(namespace: &Namespace, interface: &str) -> Result<bool> {
    let links = ip_json(namespace, &["link", "show", "dev", interface])?;
    let flags = links.pointer("/0/flags").and_then(Value::as_array);
    let flags = flags.with_context(|| format!("failed to find flags of {interface}"))?;
    Ok(!flags.iter().any(|flag| flag == "NO-CARRIER"))
}

/// Returns everything that linkbal may change, as text: equal before and after means nothing was
/// left behind.
///
/// The text holds rules, routes of all tables, addresses, qdiscs, the nft rule set, attached BPF
/// programs, and every IPv4, IPv6 and netfilter sysctl of the namespace.
///
/// # Errors
/// When a tool fails.
pub fn kernel_state(namespace: &Namespace) -> Result<String> {
    let listings: [(&str, &[&str]); 8] = [
        ("ip", &["-4", "rule", "show"]),
        ("ip", &["-6", "rule", "show"]),
        ("ip", &["-4", "route", "show", "table", "all"]),
        ("ip", &["-6", "route", "show", "table", "all"]),
        ("ip", &["-oneline", "address", "show"]),
        ("tc", &["qdisc", "show"]),
        ("nft", &["list", "ruleset"]),
        ("bpftool", &["net", "show"]),
    ];
    let mut state = String::new();
    for (program, args) in listings {
        state.push_str(&format!("## {program} {}\n", args.join(" ")));
        state.push_str(&namespace.run(program, args)?);
    }
    state.push_str("## sysctls\n");
    let _entered = namespace.enter()?;
    for folder in ["ipv4", "ipv6", "netfilter"] {
        append_sysctls(&Path::new("/proc/sys/net").join(folder), &mut state)?;
    }
    Ok(state)
}

/// Appends `path = value` for each readable file below `folder`, in the order of names.
fn append_sysctls(folder: &Path, state: &mut String) -> Result<()> {
    let mut paths = fs::read_dir(folder)
        .with_context(|| format!("failed to list {}", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        let volatile = path.file_name().is_some_and(|name| VOLATILE.iter().any(|v| name == *v));
        if path.is_dir() {
            append_sysctls(&path, state)?;
        } else if !volatile && let Ok(value) = fs::read_to_string(&path) {
            state.push_str(&format!("{} = {}\n", path.display(), value.trim_end()));
        }
    }
    Ok(())
}
