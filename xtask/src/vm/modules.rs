//! The modules that a guest loads, and their order.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

/// Modules that the lab and its tests use. A module of another kernel may be built into this one,
/// or have become part of another: only [`REQUIRED`] ones must be there. `nf_tables` asks for
/// `crc32c_generic` by a name that is not its own, and must find it loaded.
const OPTIONAL: [&str; 80] = [
    "8021q",
    "act_gact",
    "act_mirred",
    "act_police",
    "authenc",
    "bonding",
    "bridge",
    "cls_bpf",
    "cls_matchall",
    "cls_u32",
    "crc32c_generic",
    "crypto_null",
    "dummy",
    "esp4",
    "ifb",
    "inet_diag",
    "ip6_gre",
    "ip6_tunnel",
    "ip_gre",
    "ip_set",
    "ip_set_hash_ipmark",
    "ip_set_hash_net",
    "ipip",
    "macvlan",
    "netlink_diag",
    "nf_conntrack",
    "nf_conntrack_netlink",
    "nf_flow_table",
    "nf_flow_table_inet",
    "nf_log_syslog",
    "nf_tables",
    "nfnetlink",
    "nft_chain_nat",
    "nft_compat",
    "nft_ct",
    "nft_dup_netdev",
    "nft_fib",
    "nft_fib_inet",
    "nft_flow_offload",
    "nft_fwd_netdev",
    "nft_hash",
    "nft_limit",
    "nft_log",
    "nft_masq",
    "nft_nat",
    "nft_numgen",
    "nft_objref",
    "nft_queue",
    "nft_quota",
    "nft_redir",
    "nft_reject",
    "nft_reject_inet",
    "nft_socket",
    "nft_synproxy",
    "nft_tproxy",
    "raw_diag",
    "sch_cake",
    "sch_fq",
    "sch_htb",
    "sch_ingress",
    "sch_netem",
    "sch_prio",
    "sch_tbf",
    "sit",
    "tcp_diag",
    "tun",
    "udp_diag",
    "unix_diag",
    "veth",
    "virtio_blk",
    "virtio_pci",
    "vxlan",
    "xfrm_user",
    "xt_MASQUERADE",
    "xt_comment",
    "xt_connmark",
    "xt_mark",
    "xt_multiport",
    "xt_set",
    "xt_statistic",
];

/// Modules that are loaded, too, and must be there or built in.
const REQUIRED: [&str; 3] = ["ppp_async", "pppoe", "wireguard"];

/// A module: the name of its file, and its content.
pub(super) type Module = (String, Vec<u8>);

/// Returns the modules of a kernel in an order in which each finds what it depends on.
///
/// # Errors
/// If one cannot be read, or a required one is missing.
pub(super) fn in_order(folder: &Path) -> Result<Vec<Module>> {
    let built_in = folder.join("modules.builtin");
    let built_in = fs::read_to_string(&built_in)
        .with_context(|| format!("failed to read {}", built_in.display()))?;
    let mut loader = Loader { files: BTreeMap::new(), seen: BTreeSet::new(), order: Vec::new() };
    find(&folder.join("kernel"), &mut loader.files)
        .with_context(|| format!("failed to list {}", folder.display()))?;
    for name in REQUIRED {
        let there = loader.files.contains_key(name)
            || built_in.lines().any(|line| line.ends_with(&format!("/{name}.ko")));
        ensure!(there, "the kernel has no module {name}");
    }
    for name in OPTIONAL.into_iter().chain(REQUIRED) {
        loader.add(name)?;
    }
    Ok(loader.order)
}

struct Loader {
    files: BTreeMap<String, PathBuf>,
    seen: BTreeSet<String>,
    order: Vec<Module>,
}

impl Loader {
    fn add(&mut self, name: &str) -> Result<()> {
        // A module without a file is built in.
        let Some(path) = self.files.get(name) else { return Ok(()) };
        if !self.seen.insert(name.to_owned()) {
            return Ok(());
        }
        let content = read(path).with_context(|| format!("failed to read {}", path.display()))?;
        for needed in dependencies(&content) {
            self.add(&needed)?;
        }
        self.order.push((format!("{name}.ko"), content));
        Ok(())
    }
}

/// Collects the modules below a folder by name.
fn find(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            find(&path, files)?;
            continue;
        }
        let file = entry.file_name().to_string_lossy().into_owned();
        if let Some((name, "ko" | "ko.xz")) = file.split_once('.') {
            files.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_none_or(|extension| extension != "xz") {
        return Ok(fs::read(path)?);
    }
    let output = Command::new("xz").args(["--decompress", "--stdout"]).arg(path).output();
    let output = output.context("failed to start xz")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

/// Returns the dependencies of a module: a zero-terminated string `depends=a,b` of its section
/// `.modinfo`.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = module.windows(KEY.len()).position(|bytes| bytes == KEY) else {
        return Vec::new();
    };
    let list = module[start + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let list = String::from_utf8_lossy(list).replace('-', "_");
    list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_names_what_it_depends_on() {
        assert_eq!(dependencies(b"ELF\0alias=x\0depends=nf-nat,crc\0name=y\0"), ["nf_nat", "crc"]);
        assert!(dependencies(b"ELF\0depends=\0name=y\0").is_empty());
        assert!(dependencies(b"ELF").is_empty());
    }
}
