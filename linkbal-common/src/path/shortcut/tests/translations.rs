//! Hosts whose translations change under their shortcuts.

use super::*;

/// Number of hosts, and of ports outside: fewer, so that hosts get those of others.
const HOSTS: usize = 3;
const PORTS: usize = 2;

fn host(number: usize) -> End {
    ([10, 0, 0, 9 + number as u8], 40_000)
}

fn outside(port: usize) -> End {
    (OUTSIDE.0, OUTSIDE.1 + port as u16)
}

fn end(address: Address, port: u16) -> End {
    (address[0].to_ne_bytes(), u16::from_be(port))
}

/// An event at the gateway.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A host sends a packet.
    Up(usize),
    /// The server sends to a port.
    Down(usize),
    /// The tracked connection of a port is deleted.
    Delete(usize),
    Wait(u32),
    /// The uplink goes down, and comes back.
    Flap,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..HOSTS).prop_map(Step::Up),
        6 => (0..PORTS).prop_map(Step::Down),
        2 => (0..PORTS).prop_map(Step::Delete),
        3 => prop_oneof![Just(1), Just(REORDER_JIFFIES), 1..300u32].prop_map(Step::Wait),
        1 => Just(Step::Flap),
    ]
}

/// The tracked connection of a port outside.
#[derive(Clone, Copy, Debug, Default)]
struct Port {
    owner: Option<usize>,
    /// Jiffy in which each host lost it last.
    lost: [Option<u32>; HOSTS],
}

struct Nat {
    gateway: Gateway,
    ports: [Port; PORTS],
    taken: usize,
}

impl Nat {
    fn new() -> Self {
        Self { gateway: Gateway::new(), ports: [Port::default(); PORTS], taken: 0 }
    }

    /// Checks that a host that takes a shortcut has the port, or has lost it only just.
    fn check(&mut self, number: usize, port: usize) {
        self.taken += 1;
        let (Port { owner, lost }, now) = (self.ports[port], self.gateway.0.jiffies());
        let had = lost[number].is_some_and(|lost| now - lost < LIFE << 8);
        assert!(owner == Some(number) || had, "host {number}, port {port}: {owner:?} {lost:?}");
    }

    fn up(&mut self, number: usize) {
        let bytes = packet([1, 0], host(number), SERVER);
        let frame = ModelPacket { ifindex: LAN, ..ModelPacket::frame(&bytes) };
        if let Some(Taken { target, .. }) = take::<true, false, _, _>(&frame, &self.gateway.0) {
            let port = u16::from_be(target.port) - OUTSIDE.1;
            assert_eq!(target.address[0].to_ne_bytes(), OUTSIDE.0);
            return self.check(number, port.into());
        }
        let (fwmark, hash) = match ingress(&frame, &self.gateway.0) {
            Verdict::Mark(fwmark) => (fwmark, 0),
            Verdict::Propose { fwmark, hash } => (fwmark, hash),
            Verdict::Skip(reason) => panic!("{reason:?}"),
        };
        let of = |owner| self.ports.iter().position(|port| port.owner == owner);
        let Some(port) = of(Some(number)).or_else(|| of(None)) else { return };
        self.ports[port].owner = Some(number);
        if fwmark & MASK.proposal() != 0 {
            let bytes = packet([2, 3], outside(port), SERVER);
            let leaving =
                ModelPacket { ifindex: WAN[0], fwmark, hash, ..ModelPacket::frame(&bytes) };
            let _ = wan_egress(&leaving, &self.gateway.0, LAN);
            store_up(&leaving, &self.gateway.0, LAN);
        }
    }

    fn down(&mut self, port: usize) {
        let bytes = packet([3, 2], SERVER, outside(port));
        let arriving = ModelPacket { ifindex: WAN[0], ..ModelPacket::frame(&bytes) };
        if let Some(Taken { target, .. }) = take::<false, false, _, _>(&arriving, &self.gateway.0) {
            let to = end(target.address, target.port);
            let number = (0..HOSTS).find(|number| host(*number) == to).expect("a host of the LAN");
            return self.check(number, port);
        }
        let Some(number) = self.ports[port].owner else { return };
        let bytes = packet([0, 1], SERVER, host(number));
        let leaving = ModelPacket { ifindex: LAN, ..ModelPacket::frame(&bytes) };
        if egress(&leaving, &self.gateway.0, WAN[0]) {
            let mut key = FlowKey::default();
            parse(&leaving, &mut key).expect("the packet is valid");
            store_down(&leaving, &self.gateway.0, &key, WAN[0]);
        }
    }

    fn take_step(&mut self, step: Step) {
        match step {
            Step::Up(number) => self.up(number),
            Step::Down(port) => self.down(port),
            Step::Delete(port) => {
                if let Some(number) = self.ports[port].owner.take() {
                    self.ports[port].lost[number] = Some(self.gateway.0.jiffies());
                }
            }
            Step::Wait(jiffies) => self.gateway.wait(jiffies),
            Step::Flap => self.gateway.0.epochs[family_slot(0, Family::Ipv4) as usize] += 1,
        }
    }
}

#[test]
fn translations_are_followed() {
    let mut nat = Nat::new();
    let together = Step::Wait(REORDER_JIFFIES);
    for step in [Step::Up(0), Step::Down(0), together, Step::Up(0), Step::Down(0)] {
        nat.take_step(step);
    }
    assert_eq!(nat.taken, 2, "the second packet of each way");
    // The port of the first host is now that of the second one.
    let second = Step::Wait(256);
    let begun = [Step::Delete(0), Step::Up(1), second, Step::Down(0), Step::Up(1), together];
    for step in begun.into_iter().chain([Step::Down(0)]) {
        nat.take_step(step);
    }
    assert_eq!(nat.taken, 3, "the second host takes it");
    assert_eq!(nat.ports[0].owner, Some(1));
}

proptest! {
    #[test]
    fn no_packet_gets_the_translation_of_another_host(
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut nat = Nat::new();
        for step in steps {
            nat.take_step(step);
        }
    }
}
