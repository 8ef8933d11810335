//! Limits of quality, the hold time of an uplink that flaps, and flows that are moved back.

use super::{problems::expect_after_smallest, *};

#[test]
fn limits_are_read_and_overridden_one_by_one() {
    let config = parse(
        "[lan]\ninterfaces = [\"br0\"]\n[uplink.a]\ninterface = \"eth0\"\ntier = 2\n\
         on_up = \"reclaim\"\nprobe = { limits = { loss = \"0.5 %\" }, on_degraded = \"ignore\" }\n\
         [uplink.b]\ninterface = \"eth1\"\ntier = 2\non_up = \"reclaim\"\nreclaim_after = \"1m\"\n\
         [uplink.c]\ninterface = \"eth2\"\n\
         [probe]\nhold = \"20m\"\nlimits = { loss = \"5%\", latency = \"300ms\", jitter = \"50ms\" }\n",
    );
    let [a, b, _] = &config.uplinks[..] else { panic!("{:?}", config.uplinks) };
    let ms = Duration::from_millis;
    let limits = |loss| Limits { loss, latency: Some(ms(300)), jitter: Some(ms(50)) };
    assert_eq!((a.probe.limits, a.probe.on_degraded), (limits(Some(Loss(5))), OnDegraded::Ignore));
    assert_eq!((b.probe.limits, b.probe.on_degraded), (limits(Some(Loss(50))), OnDegraded::Avoid));
    assert_eq!((a.probe.hold, a.probe.hold_max), (ms(1_200_000), ms(1_200_000)));
    assert_eq!(a.on_up, OnUp::Reclaim { after: ms(30_000) });
    assert_eq!(b.on_up, OnUp::Reclaim { after: ms(60_000) });
}

#[test]
fn bad_quality_values() {
    expect_after_smallest(
        "on_up = \"back\"\nreclaim_after = \"2d\"\n\
         [probe]\nhold_max = \"2s\"\non_degraded = \"flee\"\n\
         limits = { loss = \"5\", latency = 300, jiter = \"1ms\" }\n",
        &[
            "5:9 `uplink.fiber.on_up`: \"back\" is unknown | write \"drain\" (flows stay until they \
             end) or \"reclaim\" (they are moved back to an uplink of a better tier)",
            "6:17 `uplink.fiber.reclaim_after`: \"2d\" is not within 0s to 1d | write a duration \
             from 0s to 1d",
            "8:12 `probe.hold_max`: it is shorter than the hold time of 5s | write at least \"5s\"",
            "9:15 `probe.on_degraded`: \"flee\" is unknown | write \"avoid\" (new connections go \
             elsewhere if they can) or \"ignore\"",
            "10:19 `probe.limits.loss`: \"5\" is no percentage | write a percentage in double \
             quotes, like \"5%\" or \"0.5%\"",
            "10:34 `probe.limits.latency`: expected a duration, found a whole number | write \"300ms\": \
             with a unit, in double quotes",
            "10:39 unknown key `probe.limits.jiter` | did you mean `jitter`?",
        ],
    );
    expect_after_smallest(
        "[probe]\nlimits = { loss = \"0%\" }\n",
        &["6:19 `probe.limits.loss`: \"0%\" is not within 0.1% to 100% | write a percentage from \
           \"0.1%\" to \"100%\""],
    );
}
