//! The memory of the maps, with `bpftool` as the oracle.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use aya::util::KernelVersion;
use linkbal::sys::datapath::{Datapath, memory::MapMemory};
use linkbal_common::maps;
use serde_json::Value;

use crate::{
    fixture::Fixture,
    instance::{instance, remove},
};

/// Returns what `bpftool` shows of a pinned map.
fn shown(fixture: &Fixture, name: &str) -> Result<Value> {
    let pin = fixture.instance.bpf_dir.join(name);
    let output = Command::new("bpftool").args(["-j", "map", "show", "pinned"]).arg(&pin).output();
    let output = output.context("failed to run bpftool")?;
    ensure!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[test]
fn map_memory_is_what_bpftool_reports() -> Result<()> {
    let prefixes: Vec<String> = (0..200).map(|n| format!("\"203.0.113.{n}\"")).collect();
    let rule = format!("[[rule]]\nmatch = {{ source = [{}] }}\n", prefixes.join(","));
    let mut fixture = Fixture::with_rules(&rule)?;
    // Its maps are pinned when it takes over.
    ensure!(fixture.datapath.take_over(&[]).is_empty());
    let memory = fixture.datapath.map_memory()?;
    // Before Linux 6.4 the kernel tells what tables of prefixes would take if they were full.
    let told = KernelVersion::current()? >= KernelVersion::new(6, 4, 0);
    ensure!(memory[maps::RULES_SOURCE::NAME] < 1 << 20, "{memory:?}");
    for name in maps::pinned() {
        let shown = shown(&fixture, name)?;
        if !told && shown["type"] == "lpm_trie" {
            continue;
        }
        let expected = shown["bytes_memlock"].as_u64();
        ensure!(memory.get(name).copied() == expected, "{name}: {:?}", memory.get(name));
    }
    // Those of the program's own are counted, too; a word for each CPU is the smallest of all.
    ensure!(memory.get("SCRATCH").is_some_and(|bytes| *bytes > 0), "{memory:?}");
    // The kernel reports that of a ring buffer since Linux 6.4.
    ensure!(memory.get("AYA_LOGS").is_some_and(|bytes| (*bytes > 0) == told), "{memory:?}");
    ensure!(memory[maps::FLOWS::NAME] > 65_536 * 56, "{memory:?}");
    Ok(())
}

/// Returns the memory of a new datapath with a flow table of this size.
fn memory_for(flow_table_size: u32) -> Result<MapMemory> {
    let instance = instance()?;
    let memory =
        Datapath::open(&instance, flow_table_size).and_then(|datapath| datapath.map_memory());
    remove(&instance);
    memory
}

#[test]
fn the_tables_of_flows_and_sessions_grow_with_the_configured_size() -> Result<()> {
    let (small, large) = (memory_for(16_384)?, memory_for(65_536)?);
    for (name, bytes) in &small {
        let grows = [maps::FLOWS::NAME, maps::UNREPLIED::NAME, maps::SESSIONS::NAME]
            .contains(&name.as_str());
        let expected = if grows { bytes * 7 / 2..bytes * 9 / 2 } else { *bytes..bytes + 1 };
        ensure!(expected.contains(&large[name]), "{name}: {bytes}, then {}", large[name]);
    }
    Ok(())
}
