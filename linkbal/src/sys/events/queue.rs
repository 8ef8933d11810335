//! The queue of events: in a storm only the last of each interface, and never more than a maximum.

use std::collections::VecDeque;

use crate::engine::kernel::network::NetworkEvent;

/// Number of events from which outdated ones are left out.
const COALESCE_FROM: usize = 64;

/// Number of events from which all are dropped, and everything is to be observed again.
const MAX_EVENTS: usize = 1024;

/// The events that wait.
#[derive(Debug, Default)]
pub(super) struct EventQueue(VecDeque<NetworkEvent>);

impl EventQueue {
    /// Removes the next event and returns it.
    pub(super) fn next(&mut self) -> Option<NetworkEvent> {
        self.0.pop_front()
    }

    /// Adds events.
    pub(super) fn extend(&mut self, events: impl IntoIterator<Item = NetworkEvent>) {
        events.into_iter().for_each(|event| self.push(event));
    }

    fn push(&mut self, event: NetworkEvent) {
        if self.0.len() >= COALESCE_FROM {
            let about = interface(&event);
            self.0
                .retain(|other| *other != event && (about.is_none() || interface(other) != about));
        }
        if event == NetworkEvent::Overrun || self.0.len() >= MAX_EVENTS {
            self.0.clear();
            self.0.push_back(NetworkEvent::Overrun);
        } else {
            self.0.push_back(event);
        }
    }
}

/// Returns the interface whose state an event tells.
const fn interface(event: &NetworkEvent) -> Option<u32> {
    match event {
        NetworkEvent::Link(link) => Some(link.ifindex),
        NetworkEvent::LinkGone { ifindex } => Some(*ifindex),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::kernel::network::Link, per_family::PerFamily};

    fn link(ifindex: u32, up: bool) -> NetworkEvent {
        let (name, carrier) = (format!("veth{ifindex}"), up);
        let (point_to_point, ethernet) = (false, true);
        NetworkEvent::Link(Link {
            ifindex,
            name,
            up,
            carrier,
            point_to_point,
            ethernet,
            port: false,
            vrf: None,
            mtu: PerFamily::both(1500),
        })
    }

    fn drain(queue: &mut EventQueue) -> Vec<NetworkEvent> {
        std::iter::from_fn(|| queue.next()).collect()
    }

    #[test]
    fn few_events_are_passed_on_as_they_came() {
        let events = [link(1, false), link(1, true), NetworkEvent::Changed, NetworkEvent::Changed];
        let mut queue = EventQueue::default();
        queue.extend(events.clone());
        assert_eq!(drain(&mut queue), events);
    }

    #[test]
    fn a_storm_leaves_the_last_state_of_each_interface() {
        let mut queue = EventQueue::default();
        for round in 0..1000 {
            queue.extend([link(1, round % 2 == 1), link(2, true), NetworkEvent::Changed]);
        }
        let left = drain(&mut queue);
        assert!(left.len() <= COALESCE_FROM, "{}", left.len());
        assert_eq!(left[left.len() - 3..], [link(1, true), link(2, true), NetworkEvent::Changed]);
    }

    #[test]
    fn too_many_interfaces_have_everything_observed_again() {
        let mut queue = EventQueue::default();
        queue.extend((0..10_000).map(|ifindex| link(ifindex, true)));
        let left = drain(&mut queue);
        assert!(left.len() <= MAX_EVENTS);
        assert_eq!(left[0], NetworkEvent::Overrun);
    }
}
