//! CPU time and memory of a process, as proc(5) tells them.

use std::fs;

/// Returns the CPU time of a process and of the programs that it ran, in hundredths of a second.
pub(crate) fn cpu(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = text.rsplit(") ").next().unwrap().split(' ').skip(11).take(4);
    fields.map(|field| field.parse::<u64>().unwrap()).sum()
}

/// Returns a size in the status of a process, in KiB.
pub(crate) fn memory(pid: u32, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}
