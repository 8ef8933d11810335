//! Events that the kernel reports.

use std::{fmt::Write as _, time::Instant};

use anyhow::{Context as _, Result};
use linkbal::{
    engine::kernel::network::{Link, NetworkEvent},
    sys::events::NetworkEvents,
};

use crate::namespace::{self, output, shell};

/// Skips events until one satisfies `pleases`, and returns it.
async fn wait_for(
    events: &mut NetworkEvents,
    pleases: impl Fn(&NetworkEvent) -> bool,
) -> Result<NetworkEvent> {
    loop {
        let event = events.next().await.context("the events ended")?;
        if pleases(&event) {
            return Ok(event);
        }
    }
}

fn carrier_of<'a>(name: &'a str, carrier: bool) -> impl Fn(&NetworkEvent) -> bool + 'a {
    move |event| match event {
        NetworkEvent::Link(link) => link.name == name && link.carrier == carrier,
        _ => false,
    }
}

#[test]
fn the_loss_of_the_carrier_is_reported() {
    namespace::run(|| async {
        let mut events = NetworkEvents::subscribe()?;
        shell("ip link set isp0 down")?;
        let event = wait_for(&mut events, carrier_of("wan0", false)).await?;
        assert!(matches!(event, NetworkEvent::Link(Link { up: true, .. })), "{event:?}");
        shell("ip link set isp0 up")?;
        wait_for(&mut events, carrier_of("wan0", true)).await?;
        Ok(())
    });
}

#[test]
fn interfaces_that_come_go_and_are_renamed_are_reported() {
    namespace::run(|| async {
        let mut events = NetworkEvents::subscribe()?;
        let named = |name: &'static str| move |event: &NetworkEvent| matches!(event, NetworkEvent::Link(link) if link.name == name);
        shell("ip link add ppp0 type veth peer name ppp1")?;
        let NetworkEvent::Link(link) = wait_for(&mut events, named("ppp0")).await? else {
            unreachable!("waited for a link");
        };
        shell("ip link set ppp0 name dsl0")?;
        wait_for(&mut events, named("dsl0")).await?;
        shell("ip link del dsl0")?;
        let gone = NetworkEvent::LinkGone { ifindex: link.ifindex };
        wait_for(&mut events, |event| *event == gone).await?;
        Ok(())
    });
}

#[test]
fn a_port_that_leaves_a_bridge_is_not_deleted() {
    namespace::run(|| async {
        shell("ip link add br0 type bridge; ip link set wan0 master br0")?;
        let mut events = NetworkEvents::subscribe()?;
        shell("ip link set wan0 nomaster; ip link del br0")?;
        let gone = |event: &NetworkEvent| matches!(event, NetworkEvent::LinkGone { .. });
        let first_gone = wait_for(&mut events, gone).await?;
        let wan0 = namespace::ip("link show wan0")?[0]["ifindex"].as_u64();
        assert_ne!(
            Some(first_gone),
            wan0.map(|ifindex| NetworkEvent::LinkGone { ifindex: ifindex as u32 })
        );
        Ok(())
    });
}

#[test]
fn addresses_routes_and_rules_of_both_families_are_reported() {
    namespace::run(|| async {
        for script in [
            "ip addr add 192.0.2.77/32 dev lo",
            "ip addr del 192.0.2.77/32 dev lo",
            "ip addr add 2001:db8:77::1/128 dev lo",
            "ip addr del 2001:db8:77::1/128 dev lo",
            "ip route add unreachable 10.0.0.0/8 table 77",
            "ip route del unreachable 10.0.0.0/8 table 77",
            "ip -6 route add unreachable fd00::/8 table 77",
            "ip -6 route del unreachable fd00::/8 table 77",
            "ip rule add lookup 77 pref 77",
            "ip rule del lookup 77 pref 77",
            "ip -6 rule add lookup 77 pref 77",
            "ip -6 rule del lookup 77 pref 77",
        ] {
            let mut events = NetworkEvents::subscribe()?;
            shell(script)?;
            let told = match script.contains("addr del") {
                true => NetworkEvent::AddressGone { ifindex: 1 },
                false => NetworkEvent::Changed,
            };
            // More of what the command before led to may come first.
            wait_for(&mut events, |event| *event == told).await.context(script)?;
        }
        Ok(())
    });
}

#[test]
fn lost_messages_are_reported_and_reading_goes_on() {
    namespace::run(|| async {
        let mut events = NetworkEvents::subscribe()?;
        let mut batch = String::new();
        for host in 0..20_000 {
            writeln!(batch, "route add unreachable 10.0.{}.{}", host / 256, host % 256)?;
        }
        // Nobody reads meanwhile: this thread runs the only task that could.
        output("ip", &["-batch", "-"], &batch)?;
        wait_for(&mut events, |event| *event == NetworkEvent::Overrun).await?;
        // An event that is lost from here on would not be reported.
        shell("ip link set isp0 down")?;
        wait_for(&mut events, carrier_of("wan0", false)).await?;
        Ok(())
    });
}

#[test]
fn an_event_is_not_delayed() {
    namespace::run(|| async {
        let mut events = NetworkEvents::subscribe()?;
        // By then the message lies in the socket: what is measured is the way from there.
        shell("ip link set isp0 down")?;
        let begin = Instant::now();
        wait_for(&mut events, carrier_of("wan0", false)).await?;
        let passed = begin.elapsed();
        println!("carrier loss passed on after {passed:?}");
        assert!(passed.as_millis() < 200, "{passed:?}");
        Ok(())
    });
}
