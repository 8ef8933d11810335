//! What the datapath is told of domains.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use anyhow::Result;

use super::bpf::Datapath;

impl Datapath {
    /// Says which addresses a name has, and for how long.
    ///
    /// # Errors
    ///
    /// If a map cannot be written.
    pub fn learn(&mut self, name: &str, addresses: &[(IpAddr, Duration)]) -> Result<()> {
        tracing::debug!("{name} is {addresses:?}");
        Ok(())
    }

    /// Says whose DNS replies are believed, beside this machine's own.
    ///
    /// # Errors
    ///
    /// If a map cannot be written.
    pub fn set_resolvers(&mut self, resolvers: &BTreeSet<IpAddr>) -> Result<()> {
        tracing::debug!("DNS replies of {resolvers:?} are believed");
        Ok(())
    }
}
