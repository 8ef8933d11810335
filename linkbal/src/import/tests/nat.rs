//! Exceptions from the translation of addresses.

use super::*;

const TWO: &str = "ip route replace default via 192.0.2.1 dev eth0\n\
                   ip route add default via 198.51.100.1 dev eth1 table 2\n";

/// Returns the entries of `nat.exempt`: sources and destinations.
fn exempt(kind: Tool, text: &str) -> Vec<String> {
    let (_, config) = imported(kind, text, None);
    let nets =
        |nets: &[ipnet::IpNet]| nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    config
        .exempt
        .iter()
        .map(|entry| {
            let uplinks = entry.uplinks.join(" ");
            format!("{}>{} {uplinks}", nets(&entry.source), nets(&entry.destination))
        })
        .map(|entry| entry.trim_end().to_owned())
        .collect()
}

#[test]
fn what_a_script_does_not_translate_is_exempt() {
    let of =
        |rule: &str| exempt(Tool::Script, &format!("{TWO}iptables -t nat -A POSTROUTING {rule}\n"));
    let net = "192.168.0.0/24>10.8.0.0/24";
    assert_eq!(of("-s 192.168.0.0/24 -d 10.8.0.0/24 -o eth0 -j ACCEPT"), [net]);
    assert_eq!(of("-s 192.168.0.0/24 ! -d 10.8.0.0/24 -o eth0 -j MASQUERADE"), [net]);
    assert_eq!(of("-s 192.168.0.0/24 -d ! 10.8.0.0/24 -j MASQUERADE"), [net]);
    assert_eq!(of("-d 192.168.0.0/16 -j RETURN"), [">192.168.0.0/16"]);
    // To what is not private, uplinks go on to lead.
    assert_eq!(of("-s 203.0.113.8 -o eth0 -j ACCEPT"), ["203.0.113.8/32> eth0"]);
    assert_eq!(of("-s 203.0.113.8 -j ACCEPT"), ["203.0.113.8/32> eth0 eth1"]);
    for none in ["-d 10.8.0.0/24 -o tun0 -j ACCEPT", "-o eth0 -j MASQUERADE", "-j ACCEPT"] {
        assert!(of(none).is_empty(), "{none}");
    }
    let ipsec = "-m policy --dir out --pol ipsec -j ACCEPT";
    let text = format!("{TWO}iptables -t nat -A POSTROUTING {ipsec}\n");
    let (translated, config) = imported(Tool::Script, &text, None);
    assert!(config.exempt.is_empty());
    assert!(notes(&translated, NoteKind::Untranslated, 3, "nat.exempt"), "{translated:#?}");
}

#[test]
fn what_vyos_and_edgeos_do_not_translate_is_exempt() {
    let vyos = "set load-balancing wan interface-health eth0 nexthop 203.0.113.1\n\
                set load-balancing wan rule 1 interface eth0\n\
                set nat source rule 5 destination address 10.8.0.0/24\n\
                set nat source rule 5 exclude\n\
                set nat source rule 5 outbound-interface name eth0\n";
    assert_eq!(exempt(Tool::Vyos, vyos), [">10.8.0.0/24"]);
    let port = vyos.to_owned() + "set nat source rule 5 destination port 80\n";
    let (translated, config) = imported(Tool::Vyos, &port, None);
    assert!(config.exempt.is_empty());
    assert!(notes(&translated, NoteKind::Untranslated, 6, "nat.exempt"), "{translated:#?}");
    let other = vyos.replace("exclude", "translation address 203.0.113.7");
    let (translated, _) = imported(Tool::Vyos, &other, None);
    assert!(notes(&translated, NoteKind::Untranslated, 4, "203.0.113.7"), "{translated:#?}");
    let edgeos = "set load-balance group G interface eth0\n\
                  set service nat rule 5001 exclude\n\
                  set service nat rule 5001 destination address 10.9.0.0/16\n\
                  set service nat rule 5001 outbound-interface eth0\n\
                  set service nat rule 5001 type masquerade\n";
    assert_eq!(exempt(Tool::Edgeos, edgeos), [">10.9.0.0/16"]);
    assert!(
        exempt(
            Tool::Edgeos,
            &edgeos.replace(
                "interface eth0\nset service nat rule 5001 type",
                "interface vtun0\nset service nat rule 5001 type"
            )
        )
        .is_empty()
    );
}

#[test]
fn an_exception_is_for_its_uplink_by_the_name_that_it_has_here() {
    let edgeos = "set load-balance group G interface eth0.5\n\
                  set load-balance group G interface eth1\n\
                  set service nat rule 5 source address 10.8.0.0/24\n\
                  set service nat rule 5 exclude\n\
                  set service nat rule 5 outbound-interface eth0.5\n";
    assert_eq!(exempt(Tool::Edgeos, edgeos), ["10.8.0.0/24> eth0-5"]);
    // What a rule before it translates is no exception.
    let before = edgeos.to_owned()
        + "set service nat rule 4 type masquerade\n\
           set service nat rule 4 outbound-interface eth0.5\n";
    assert!(exempt(Tool::Edgeos, &before).is_empty());
    let other =
        before.replace("rule 4 outbound-interface eth0.5", "rule 4 outbound-interface eth1");
    assert_eq!(exempt(Tool::Edgeos, &other).len(), 1);
    let behind = before.replace("rule 4", "rule 6");
    assert_eq!(exempt(Tool::Edgeos, &behind).len(), 1);
}

#[test]
fn an_exception_of_vyos_is_not_about_balanced_flows() {
    let vyos = "set load-balancing wan interface-health eth0 nexthop 203.0.113.1\n\
                set load-balancing wan rule 1 interface eth0\n\
                set nat source rule 5 source address 192.168.7.0/24\n\
                set nat source rule 5 exclude\n";
    let (translated, config) = imported(Tool::Vyos, vyos, None);
    assert!(config.exempt.is_empty());
    assert!(notes(&translated, NoteKind::Untranslated, 4, "before this rule"), "{translated:#?}");
    let off = vyos.to_owned() + "set load-balancing wan disable-source-nat\n";
    let (translated, _) = imported(Tool::Vyos, &off, None);
    assert!(notes(&translated, NoteKind::Unneeded, 4, "stays yours"), "{translated:#?}");
}

#[test]
fn an_exception_counts_by_its_place() {
    let of = |rules: &[&str]| {
        let rules: String = rules.iter().map(|rule| format!("iptables -t nat {rule}\n")).collect();
        exempt(Tool::Script, &format!("{TWO}{rules}"))
    };
    let leave = "-A POSTROUTING -s 10.0.5.0/24 -j ACCEPT";
    let (first, second) =
        ("-A POSTROUTING -o eth0 -j MASQUERADE", "-A POSTROUTING -o eth1 -j MASQUERADE");
    assert!(of(&[first, second, leave]).is_empty());
    assert_eq!(of(&[first, leave, second]), ["10.0.5.0/24> eth1"]);
    assert_eq!(of(&[leave, first, second]), ["10.0.5.0/24> eth0 eth1"]);
    assert_eq!(of(&[first, second, &leave.replace("-A", "-I")]), ["10.0.5.0/24> eth0 eth1"]);
    // A part of it is translated already.
    let part = "-A POSTROUTING -s 10.0.5.7 -o eth0 -j MASQUERADE";
    assert!(of(&[part, leave]).is_empty());
    assert_eq!(of(&["-A POSTROUTING -p tcp -s 10.9.0.0/16 -j MASQUERADE", leave]).len(), 1);
    // What one rule leaves out, another one may translate.
    let negated = "-A POSTROUTING -o eth0 ! -s 203.0.113.24/29 -j MASQUERADE";
    assert_eq!(of(&[negated]), ["203.0.113.24/29> eth0"]);
    let rest = "-A POSTROUTING -o eth0 -s 203.0.113.24/29 -j SNAT --to-source 192.0.2.9";
    assert!(of(&[negated, rest]).is_empty());
    assert_eq!(of(&[negated, second]).len(), 1);
}

#[test]
fn an_exception_in_a_chain_of_its_own_is_to_be_written() {
    let text = format!(
        "{TWO}iptables -t nat -N NONAT\niptables -t nat -A NONAT -d 203.0.113.0/24 -j ACCEPT\n\
         iptables -t nat -A DOCKER -i docker0 -j RETURN\n"
    );
    let (translated, config) = imported(Tool::Script, &text, None);
    assert!(config.exempt.is_empty());
    assert!(notes(&translated, NoteKind::Untranslated, 4, "nat.exempt"), "{translated:#?}");
    assert!(!notes(&translated, NoteKind::Untranslated, 5, "nat.exempt"), "{translated:#?}");
}
