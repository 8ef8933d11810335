//! The state files that linkbal leaves for itself, with any content.

use std::sync::LazyLock;

use linkbal::{config::Config, daemon::fuzz};

/// A configuration to which the files refer.
static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let text = r#"
        [lan]
        interfaces = ["lan0"]
        [uplink.a]
        interface = "bond0"
        [uplink.b]
        interface = "wan1"
        [bond.bond0]
        members = ["eth0", "eth1"]
        mode = "active-backup"
    "#;
    Config::parse(text, "state").unwrap_or_else(|error| panic!("{error}"))
});

/// Reads a state file; the first byte tells which one.
pub fn run(data: &[u8]) {
    if let Some((which, text)) = data.split_first() {
        fuzz::state(*which, text, &CONFIG);
    }
}
