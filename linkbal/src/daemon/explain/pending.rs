//! The part of an answer that takes longer: live flows, connection tracking, the kernel's routes.

use std::path::PathBuf;

use linkbal_common::{
    flow::{Flow, FlowKey},
    mark::MarkMask,
};

use super::{outside::Outside, words::Words};
use crate::{
    api::explain::{Connection, Explanation, FlowQuestion},
    sys::{
        conntrack,
        datapath::flows::{FlowTable, situation},
        host::{descriptors, thread},
    },
};

/// Maximum number of live flows that an answer has.
const MAX_FLOWS: usize = 8;

/// Questions that are yet to be asked.
pub(super) struct Pending {
    pub(super) dir: PathBuf,
    pub(super) key: FlowKey,
    /// Set if the source port is known, or there is none.
    pub(super) exact: bool,
    pub(super) flow: Option<Flow>,
    pub(super) mask: MarkMask,
    pub(super) outside: Outside,
    pub(super) words: Words,
}

impl Pending {
    pub(super) async fn finish(self, mut explanation: Explanation) -> Explanation {
        explanation.outside = self.outside.ask().await;
        let unchanged = explanation.clone();
        let filled = thread::run("explain", move || {
            let _lent = descriptors::lend();
            self.look(&mut explanation);
            explanation
        });
        filled.await.unwrap_or(unchanged)
    }

    /// Looks at the live flows of the ends, and at the connection. Blocks for as long as the flow table
    /// takes to be read if the source port is not known.
    fn look(&self, explanation: &mut Explanation) {
        let situation = situation(&self.dir);
        // One that is over is in the table until another one takes its place.
        let is_live = |key: &FlowKey, flow: &Flow| {
            situation.as_ref().map_or(true, |situation| situation.is_live(key, flow))
        };
        let of_tuple = self.flow.filter(|flow| is_live(&self.key, flow));
        let mut found: Vec<(FlowKey, Flow)> =
            of_tuple.map(|flow| (self.key, flow)).into_iter().collect();
        explanation.flow_count = found.len();
        if !self.exact {
            found.clear();
            let mut count = 0usize;
            let read = FlowTable::open(&self.dir).and_then(|table| {
                table.for_each(|key, flow| {
                    let is_it = FlowKey { source_port: self.key.source_port, ..*key } == self.key;
                    if is_it && is_live(key, flow) {
                        count = count.saturating_add(1);
                        if found.len() < MAX_FLOWS {
                            found.push((*key, *flow));
                        }
                    }
                })
            });
            if let Err(error) = read {
                explanation.outside.push(format!("the flow table cannot be read: {error:#}"));
            }
            explanation.flow_count = count;
        }
        explanation.flows = found.iter().map(|(key, flow)| self.words.flow(key, flow)).collect();
        if let [(key, _)] = &found[..] {
            explanation.connection = self.connection(key, &explanation.question);
        } else if self.exact {
            explanation.connection = self.connection(&self.key, &explanation.question);
        }
    }

    fn connection(&self, key: &FlowKey, question: &FlowQuestion) -> Option<Connection> {
        let found = conntrack::find::find(key, question.source, question.destination);
        let found = found.inspect_err(|error| tracing::debug!("no connection is told: {error}"));
        let tracked = found.ok()??;
        Some(Connection {
            translated_source: tracked.translated_source,
            translated_port: tracked.translated_port,
            answered_by: tracked.answered_by,
            offloaded: tracked.offloaded,
            uplink: self.mask.decode(tracked.mark).map(|index| self.words.name(index)),
        })
    }
}
