//! Parts that `linkbal flows` and `linkbal clients` have in common: conditions, progress, numbers.

use std::io::{self, IsTerminal as _};

use anyhow::Result;
use clap::{Args, value_parser};
use indicatif::{ProgressBar, ProgressStyle};

use super::leased::leased_address;
use crate::{
    api::{client, flows::ByteCounting},
    bytes,
    flows::query::FlowQuery,
};

/// Conditions of flows; a flow must satisfy all.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Conditions {
    /// Name of the uplink
    #[arg(long)]
    uplink: Option<String>,
    /// Address or prefix of the LAN host, or its name in a DHCP lease
    #[arg(long, value_name = "ADDRESS")]
    client: Option<String>,
    /// Address or prefix of the remote end
    #[arg(long, value_name = "ADDRESS")]
    destination: Option<String>,
    /// Destination port of the connection
    #[arg(long, value_parser = value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Protocol: tcp, udp, icmp, icmpv6, or a number
    #[arg(long)]
    protocol: Option<String>,
    /// Number of the rule that matched, counted from 1 in the order of the configuration
    #[arg(long, value_name = "NUMBER")]
    rule: Option<u8>,
    /// Domain of a rule that the remote end belongs to
    #[arg(long)]
    domain: Option<String>,
}

impl Conditions {
    /// Returns the question.
    pub(super) fn query(&self) -> FlowQuery {
        FlowQuery {
            uplink: self.uplink.clone(),
            client: self.client.as_deref().map(address_of),
            destination: self.destination.clone(),
            port: self.port,
            protocol: self.protocol.clone(),
            rule: self.rule,
            domain: self.domain.clone(),
            ..FlowQuery::default()
        }
    }
}

/// Returns a host as the daemon knows it: by its address, if a DHCP lease has its name.
fn address_of(host: &str) -> String {
    let is_name = !host.contains([':', '/']) && host.contains(|c: char| c.is_ascii_alphabetic());
    let leased = is_name.then(|| leased_address(host)).flatten();
    leased.map_or_else(|| host.to_owned(), |address| address.to_string())
}

/// A bar that shows how far a reading is, on a terminal alone.
pub(super) struct Bar(Option<ProgressBar>);

/// Steps of the bar.
const STEPS: u64 = 1000;

impl Bar {
    /// Creates a bar; `wanted` is not set if something else is on the terminal at the time.
    pub(super) fn new(wanted: bool) -> Bar {
        Bar((wanted && io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new(STEPS);
            let style = ProgressStyle::with_template("reading flows {bar:40} {percent} %");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        }))
    }

    /// Shows the part that is read, from 0 to 1.
    pub(super) fn show(&self, part: f64) {
        if let Some(bar) = &self.0 {
            bar.set_position((part * STEPS as f64) as u64);
            bar.tick();
        }
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// Reads a line of an answer.
pub(super) fn read<'a, T: serde::Deserialize<'a>>(line: &'a str) -> Result<T> {
    client::read(line)
}

/// Formats a number of bytes in few characters, with the letters of binary prefixes.
pub(super) fn short_bytes(bytes: u64) -> String {
    let text = bytes::bytes(bytes);
    text.trim_end_matches("iB").trim_end_matches('B').replace(' ', "")
}

/// Says what bytes stand for, unless they are all there.
pub(super) const fn bytes_hint(bytes: ByteCounting) -> &'static str {
    match bytes {
        ByteCounting::On => "",
        ByteCounting::Partial => {
            "; UP and DOWN lack packets that take shortcuts, which connection tracking does not see"
        }
        ByteCounting::Off => {
            "; bytes are not counted: `sysctl -w net.netfilter.nf_conntrack_acct=1` counts those of \
             connections that begin after it"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_short() {
        assert_eq!([0, 1023, 1024, 5 << 30].map(short_bytes), ["0", "1023", "1.0K", "5.0G"]);
    }
}
