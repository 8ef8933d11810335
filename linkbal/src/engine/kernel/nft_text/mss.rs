//! The chain that clamps the MSS that comes in by an uplink to the MTU that is configured for it. The
//! MSS that leaves by an uplink is clamped by the datapath.

use linkbal_common::mark::MarkMask;

use super::NftUplink;

/// Returns the chains for uplinks with an MTU; nothing if none has one.
///
/// An answer to a SYN is seen by no chain of new connections, so all packets pass this chain: those
/// of another interface are compared with its name, those of the uplink also with the flags. The
/// marks of connections are set by then.
pub(super) fn chains(uplinks: &[&NftUplink], mask: MarkMask) -> String {
    let clamped = || uplinks.iter().filter_map(|uplink| Some((*uplink, uplink.mtu?)));
    if clamped().next().is_none() {
        return String::new();
    }
    let each: String = clamped().map(|(uplink, mtu)| of_uplink(uplink.index, mtu)).collect();
    let rules: String = clamped().map(|(uplink, _)| rule(uplink, mask)).collect();
    format!(
        "{each}  chain mss {{
    type filter hook prerouting priority dstnat + 10; policy accept;
{rules}  }}
"
    )
}

/// Returns the chain that clamps the MSS of a SYN: an MTU less the headers of IP and TCP (RFC 6691).
fn of_uplink(index: u32, mtu: u32) -> String {
    let rule = |family: &str, headers: u32| {
        let mss = mtu.saturating_sub(headers);
        format!(
            "    meta nfproto {family} tcp option maxseg size > {mss} \
             tcp option maxseg size set {mss}\n"
        )
    };
    format!("  chain mss_{index} {{\n{}{}  }}\n", rule("ipv4", 40), rule("ipv6", 60))
}

fn rule(uplink: &NftUplink, mask: MarkMask) -> String {
    let NftUplink { ifname, index, sole_on_interface, .. } = uplink;
    let (number, fwmark) = (mask.number(), mask.encode(*index));
    let marked = format!("ct mark & {number:#010x} == {fwmark:#010x} ");
    let marked = if *sole_on_interface { "" } else { &marked };
    format!("    iifname \"{ifname}\" tcp flags syn / syn,rst {marked}goto mss_{index}\n")
}

#[cfg(test)]
mod tests {
    use linkbal_common::mark::DEFAULT_MASK;

    use super::{super::tests::uplink, *};

    #[test]
    fn only_uplinks_with_an_mtu_have_chains() {
        let mask = MarkMask(DEFAULT_MASK);
        let plain = uplink("eth0", 0, true);
        assert_eq!(chains(&[&plain], mask), "");
        let alone = NftUplink { mtu: Some(1492), ..uplink("ppp0", 1, true) };
        let sharing = NftUplink { mtu: Some(1400), ..uplink("eth1", 2, false) };
        let expected = r#"  chain mss_1 {
    meta nfproto ipv4 tcp option maxseg size > 1452 tcp option maxseg size set 1452
    meta nfproto ipv6 tcp option maxseg size > 1432 tcp option maxseg size set 1432
  }
  chain mss_2 {
    meta nfproto ipv4 tcp option maxseg size > 1360 tcp option maxseg size set 1360
    meta nfproto ipv6 tcp option maxseg size > 1340 tcp option maxseg size set 1340
  }
  chain mss {
    type filter hook prerouting priority dstnat + 10; policy accept;
    iifname "ppp0" tcp flags syn / syn,rst goto mss_1
    iifname "eth1" tcp flags syn / syn,rst ct mark & 0x1f000000 == 0x03000000 goto mss_2
  }
"#;
        assert_eq!(chains(&[&plain, &alone, &sharing], mask), expected);
    }
}
