//! The end of this machine's own connections by an uplink (sock_diag(7), `SOCK_DESTROY`); their programs
//! see that they were aborted.
//!
//! An address alone does not tell them: two providers may give the same one, and what came in by an
//! uplink waits for it. The fwmark that linkbal gave a socket does.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::{Context as _, Result, ensure};

use super::super::host::child::{self, Invocation};
use crate::engine::command::Unmarked;

/// The local connections that end with the flows of an uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalConnections {
    /// The addresses that they come from.
    pub addresses: Vec<IpAddr>,
    /// The fwmark of the uplink.
    pub fwmark: u32,
    /// The bits of a fwmark that hold the uplink.
    pub mask: u32,
    /// Connections that end although their sockets carry no uplink.
    pub unmarked: Unmarked,
}

impl LocalConnections {
    /// Ends them, as many as possible.
    ///
    /// # Errors
    ///
    /// If `ss` is missing, or the kernel cannot do that: the first one.
    pub(super) fn abort(&self) -> Result<()> {
        let marked = self.addresses.iter().map(|address| end(address, &self.marked(address)));
        let marked = first_error(marked);
        let listening = match self.unmarked {
            Unmarked::None | Unmarked::UnlessBalanced => return marked,
            Unmarked::Outgoing => listening_ports()?,
            Unmarked::All => BTreeSet::new(),
        };
        let unmarked = self.addresses.iter();
        let unmarked = unmarked.map(|address| end(address, &self.unmarked(address, &listening)));
        marked.and(first_error(unmarked))
    }

    /// Returns the filter of the connections from an address that carry the uplink.
    fn marked(&self, address: &IpAddr) -> Vec<String> {
        filter(address, self.fwmark, self.mask)
    }

    /// Returns the filter of those that carry no uplink, and were not made to one of the ports
    /// `listening` of this machine.
    fn unmarked(&self, address: &IpAddr, listening: &BTreeSet<u16>) -> Vec<String> {
        let mut words = filter(address, 0, self.mask);
        for port in listening {
            words.extend(["and", "sport", "!="].map(str::to_owned));
            words.push(format!(":{port}"));
        }
        words
    }
}

/// Goes on after errors, and returns the first one.
fn first_error(results: impl Iterator<Item = Result<()>>) -> Result<()> {
    results.reduce(Result::and).unwrap_or(Ok(()))
}

fn filter(address: &IpAddr, fwmark: u32, mask: u32) -> Vec<String> {
    let address = match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let words = ["src", &address, "and", "fwmark", "=", &format!("{fwmark:#x}/{mask:#x}")];
    words.map(str::to_owned).to_vec()
}

fn end(address: &IpAddr, filter: &[String]) -> Result<()> {
    ss(&["--kill"], filter)
        .map(drop)
        .with_context(|| format!("failed to end local connections from {address}"))
}

/// Returns the TCP ports that programs of this machine listen at.
fn listening_ports() -> Result<BTreeSet<u16>> {
    let listed = ss(&["--listening"], &[]).context("failed to list the ports in use")?;
    Ok(ports_in(&listed))
}

/// Returns the local ports in a list of sockets: the fourth column is the local address.
fn ports_in(listed: &str) -> BTreeSet<u16> {
    let local = listed.lines().filter_map(|line| line.split_whitespace().nth(3));
    local.filter_map(|local| local.rsplit_once(':')?.1.parse().ok()).collect()
}

/// Runs `ss` for TCP, and returns what it prints.
fn ss(options: &[&str], filter: &[String]) -> Result<String> {
    let fixed = ["--tcp", "--numeric", "--no-header"];
    let filter = filter.iter().map(String::as_str);
    let arguments: Vec<&str> =
        fixed.into_iter().chain(options.iter().copied()).chain(filter).collect();
    let printed = child::run_blocking(Invocation::new("ss", &arguments))
        .context("failed to run ss (of the package iproute2)")?;
    let stderr = String::from_utf8_lossy(&printed.stderr);
    let stderr = stderr.trim();
    ensure!(printed.status.success() && stderr.is_empty(), "{stderr}");
    Ok(String::from_utf8_lossy(&printed.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_is_told_by_address_and_fwmark() {
        let addresses = vec!["192.0.2.1".parse().expect("an address")];
        let unmarked = Unmarked::Outgoing;
        let local =
            LocalConnections { addresses, fwmark: 0x0200_0000, mask: 0x1f00_0000, unmarked };
        let [address] = local.addresses[..] else { unreachable!() };
        let marked = local.marked(&address).join(" ");
        assert_eq!(marked, "src 192.0.2.1 and fwmark = 0x2000000/0x1f000000");
        let outgoing = local.unmarked(&address, &BTreeSet::from([22, 443])).join(" ");
        let unmarked = "src 192.0.2.1 and fwmark = 0x0/0x1f000000";
        assert_eq!(outgoing, format!("{unmarked} and sport != :22 and sport != :443"));
        let ipv6 = "2001:db8::1".parse().expect("an address");
        assert!(local.marked(&ipv6).starts_with(&["src".into(), "[2001:db8::1]".into()]));
    }

    #[test]
    fn ports_of_listeners() {
        let listed = "LISTEN 0 128 0.0.0.0:22 0.0.0.0:*\nLISTEN 0 4096 [::1]:631 [::]:* \n\
                      LISTEN 0 4096 127.0.0.53%lo:53 0.0.0.0:*\nLISTEN 0 1 *:8080 *:*\nrubbish\n";
        assert_eq!(ports_in(listed), BTreeSet::from([22, 53, 631, 8080]));
        assert_eq!(ports_in(""), BTreeSet::new());
    }
}
