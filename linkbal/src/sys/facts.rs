//! What can be known of a machine beside the state of its network: whether routers answer.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use anyhow::Result;
use futures::future::join_all;
use tokio::time::timeout;

use super::{Kernel, probe::neighbour_answers};
use crate::{
    config::Config,
    engine::{
        kernel::network::Snapshot,
        mistakes::{self, Facts, Question},
    },
};

/// Number of times that a router is asked: one request may be lost.
const ATTEMPTS: usize = 3;

/// Time for which each answer is waited for.
const LIMIT: Duration = Duration::from_millis(400);

impl Kernel {
    /// Observes what mistakes of a configuration can be told by; asks the routers on the links.
    ///
    /// # Errors
    ///
    /// If the kernel does not answer.
    pub async fn facts(&self, config: &Config, snapshot: Snapshot) -> Result<Facts> {
        let devices = self.netlink.devices().await?;
        let asked = ask_all(mistakes::questions(config, &snapshot)).await;
        Ok(Facts { snapshot, devices, asked })
    }
}

/// Asks routers, all at the same time. Those that this machine cannot ask are left out.
pub async fn ask_all(questions: Vec<Question>) -> BTreeMap<(u32, IpAddr), bool> {
    let each = questions.into_iter().map(|question| async move {
        let Question { ifindex, gateway, .. } = question;
        Some(((ifindex, gateway), ask(question).await?))
    });
    join_all(each).await.into_iter().flatten().collect()
}

/// Asks a router; `None` if this machine cannot.
async fn ask(question: Question) -> Option<bool> {
    let Question { ifindex, gateway, local } = question;
    for _ in 0..ATTEMPTS {
        match timeout(LIMIT, neighbour_answers(ifindex, gateway, local)).await {
            Ok(Ok(answers)) => return Some(answers),
            Ok(Err(_)) => return None,
            Err(_) => {}
        }
    }
    Some(false)
}
