//! Questions to routers and hosts on the links: whether they answer ARP and neighbour solicitations.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use anyhow::Result;
use futures::future::join_all;
use tokio::time::timeout;

use super::{
    Kernel,
    host::thread,
    probe::{Mac, neighbour_answers},
    resolve::system_resolvers,
};
use crate::{
    config::Config,
    engine::{
        kernel::network::Snapshot,
        mistakes::{self, MachineFacts, NeighbourQuestion},
    },
};

/// Number of times that a router is asked: one request may be lost.
const ATTEMPTS: usize = 3;

/// Time for which each answer is waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(250);

impl Kernel {
    /// Observes what mistakes of a configuration can be told by; asks the routers on the links, and
    /// if `thorough` also whether other hosts have this machine's addresses, which takes longer:
    /// silence is the good answer.
    ///
    /// # Errors
    ///
    /// If the kernel does not answer.
    pub async fn facts(
        &self,
        config: &Config,
        snapshot: Snapshot,
        thorough: bool,
    ) -> Result<MachineFacts> {
        let devices = self.netlink.devices().await?;
        let own: BTreeSet<Mac> = devices.values().filter_map(|device| device.mac).collect();
        let asked = ask_all(mistakes::questions(config, &snapshot), &own);
        let claims = if thorough { mistakes::claims(config, &snapshot) } else { Vec::new() };
        let claimed = ask_all(claims, &own);
        // The file may be on a disk that hangs.
        let resolvers = timeout(ANSWER_TIMEOUT, thread::run("resolvers", system_resolvers));
        let (asked, claimed, resolvers) = tokio::join!(asked, claimed, resolvers);
        let resolvers = resolvers.ok().and_then(Result::ok).unwrap_or_default();
        Ok(MachineFacts { snapshot, devices, asked, claimed, resolvers })
    }
}

/// Asks routers, all at the same time. Those that this machine cannot ask are left out.
async fn ask_all(
    questions: Vec<NeighbourQuestion>,
    own: &BTreeSet<Mac>,
) -> BTreeMap<(u32, IpAddr), bool> {
    let each = questions.into_iter().map(|question| async move {
        let NeighbourQuestion { ifindex, gateway, .. } = question;
        Some(((ifindex, gateway), ask(question, own).await?))
    });
    join_all(each).await.into_iter().flatten().collect()
}

/// Asks a router; `None` if this machine cannot.
async fn ask(question: NeighbourQuestion, own: &BTreeSet<Mac>) -> Option<bool> {
    let NeighbourQuestion { ifindex, gateway, local } = question;
    for _ in 0..ATTEMPTS {
        match timeout(ANSWER_TIMEOUT, neighbour_answers(ifindex, gateway, local, own)).await {
            Ok(Ok(answers)) => return Some(answers),
            Ok(Err(_)) => return None,
            Err(_) => {}
        }
    }
    Some(false)
}
