//! The busiest flows, with what each carries now.

use std::{borrow::Cow, cmp::Reverse, collections::HashMap, net::IpAddr, time::Duration};

use crate::{api::flows::FlowSummary, flows::record::FlowRecord};

/// The ends of a flow, and its protocol.
pub(super) type Key = (String, IpAddr, Option<u16>, IpAddr, Option<u16>);

/// A flow with its rate.
#[derive(Clone, Debug)]
pub(super) struct BusyFlow {
    /// The flow.
    pub(super) flow: FlowRecord<'static>,
    /// Bits per second, both ways together, since the answer before; `None` if it was not in that one.
    pub(super) rate: Option<u64>,
}

impl BusyFlow {
    /// Returns what tells the flow from others.
    pub(super) fn key(&self) -> Key {
        let FlowRecord { protocol, client, client_port, destination, destination_port, .. } =
            &self.flow;
        (protocol.to_string(), *client, *client_port, *destination, *destination_port)
    }

    fn bytes(&self) -> u64 {
        let FlowRecord { bytes_up, bytes_down, .. } = &self.flow;
        bytes_up.unwrap_or_default().saturating_add(bytes_down.unwrap_or_default())
    }
}

/// An answer about flows, as a whole.
#[derive(Clone, Debug, Default)]
pub(super) struct FlowAnswer {
    /// The flows.
    pub(super) flows: Vec<FlowRecord<'static>>,
    /// Number of all, and the meaning of their bytes.
    pub(super) summary: Option<FlowSummary>,
}

/// The flows of the last answer, the busiest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Busy {
    /// The flows.
    pub(super) flows: Vec<BusyFlow>,
    /// Number of all, and the meaning of their bytes; `None` before the first answer.
    pub(super) summary: Option<FlowSummary>,
    at: Duration,
}

impl Busy {
    /// Takes another answer, which came at a time.
    pub(super) fn take(&mut self, answer: FlowAnswer, at: Duration) {
        let before: HashMap<Key, u64> =
            self.flows.iter().map(|flow| (flow.key(), flow.bytes())).collect();
        let passed = at.saturating_sub(self.at).as_secs_f64();
        let rated = answer.flows.into_iter().map(|flow| {
            let counted = flow.bytes_up.is_some() || flow.bytes_down.is_some();
            let mut flow = BusyFlow { flow, rate: None };
            let since = before.get(&flow.key()).filter(|_| counted && passed > 0.0);
            flow.rate = since.map(|since| rate(flow.bytes().saturating_sub(*since), passed));
            flow
        });
        let mut flows: Vec<BusyFlow> = rated.collect();
        // What was not seen twice comes in between: it may be busy, too.
        flows.sort_by_key(|flow| Reverse((flow.rate.unwrap_or(1), flow.bytes())));
        *self = Busy { flows, summary: answer.summary, at };
    }
}

/// Returns bits per second.
fn rate(bytes: u64, seconds: f64) -> u64 {
    let bits = bytes as f64 * 8.0 / seconds;
    // It saturates.
    bits as u64
}

/// Returns a flow that borrows nothing of the line it was read from.
pub(super) fn owned(flow: FlowRecord<'_>) -> FlowRecord<'static> {
    let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
    FlowRecord {
        protocol: own(flow.protocol),
        client: flow.client,
        client_port: flow.client_port,
        destination: flow.destination,
        destination_port: flow.destination_port,
        uplink: own(flow.uplink),
        from: own(flow.from),
        state: own(flow.state),
        age_s: flow.age_s,
        idle_s: flow.idle_s,
        reason: own(flow.reason),
        rule: flow.rule,
        moved_from: flow.moved_from.map(own),
        bytes_up: flow.bytes_up,
        bytes_down: flow.bytes_down,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::samples::flow;

    fn answer(bytes: &[(u16, Option<u64>)]) -> FlowAnswer {
        let flows = bytes.iter().map(|(port, bytes)| FlowRecord {
            bytes_up: bytes.map(|_| 0),
            bytes_down: *bytes,
            ..flow("isp-a", *port)
        });
        FlowAnswer { flows: flows.collect(), summary: None }
    }

    #[test]
    fn the_busiest_come_first_and_what_is_new_before_what_is_silent() {
        let mut busy = Busy::default();
        let large = (1, Some(1 << 30));
        busy.take(answer(&[large, (2, Some(1000))]), Duration::from_secs(1));
        let rates = |busy: &Busy| {
            let each = busy.flows.iter().map(|flow| (flow.flow.client_port, flow.rate));
            each.collect::<Vec<_>>()
        };
        assert_eq!(rates(&busy), [(Some(1), None), (Some(2), None)]);
        busy.take(answer(&[large, (2, Some(3000)), (3, Some(9))]), Duration::from_secs(3));
        assert_eq!(rates(&busy), [(Some(2), Some(8000)), (Some(3), None), (Some(1), Some(0))]);
        // A connection that began anew with the same ends has fewer bytes.
        busy.take(answer(&[(2, Some(10))]), Duration::from_secs(4));
        assert_eq!(rates(&busy), [(Some(2), Some(0))]);
        busy.take(answer(&[(2, None)]), Duration::from_secs(5));
        assert_eq!(rates(&busy), [(Some(2), None)]);
    }
}
