//! The lab kept up for the user to look around.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::Tour;
use crate::interrupt;
use crate::namespace::Namespace;

impl Tour {
    /// Prints how to look around, and waits for Ctrl-C.
    pub(super) fn hold(&mut self) -> Result<()> {
        let Self { screen, lab, daemon, .. } = self;
        let enter =
            |namespace: &Namespace| format!("nsenter --net=/run/netns/{}", namespace.name());
        screen.title("Namespaces (a shell inside: append sh)");
        for namespace in lab.namespaces() {
            screen.line(&enter(namespace));
        }
        let (gateway, lan) = (enter(&lab.gateway), enter(&lab.lan));
        let pins = lab.gateway.bpf_dir();
        let pins = pins.display();
        screen.title("What linkbal says");
        screen.line(&format!("{gateway} {} status", daemon.program().display()));
        screen.title("What the kernel holds");
        screen.line(&format!("ls {pins}"));
        screen.line(&format!("bpftool map dump pinned {pins}/FLOWS"));
        screen.line(&format!("{gateway} ip rule; {gateway} nft list table inet linkbal"));
        screen
            .title("Open 20 flows and see by whose address (203.0.113.2 isp-a, 203.0.113.6 isp-b)");
        screen.line("for i in $(seq 10 29); do");
        screen.line(&format!("  {lan} curl -s --interface 10.77.0.$i http://198.51.100.1/"));
        screen.line("done | sort | uniq -c");
        screen.title("Configuration");
        screen.line(&daemon.config_path().display().to_string());
        screen.title("Ctrl-C ends the lab and removes everything");
        while interrupt::check().is_ok() {
            daemon.check_running()?;
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}
