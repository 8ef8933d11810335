//! `[probe]`, `[[sticky]]`, `[kernel]`, and how much an uplink carries.

use super::*;

#[test]
fn bad_probe_values() {
    expect_after_smallest(
        "[probe]\ninterval = \"19ms\"\ntimeout = \"soon\"\nhold = \"5\"\nfailure_count = 0\n",
        &[
            "6:12 `probe.interval`: \"19ms\" is not within 20ms to 1h | \
             write a duration from 20ms to 1h",
            "7:11 `probe.timeout`: \"soon\" is not a duration | write a number and a unit in \
             double quotes, like \"200ms\", \"5s\" or \"10m\"; or write \"auto\"",
            "8:8 `probe.hold`: \"5\" is not a duration | write \"5s\": with a unit, in double quotes",
            "9:17 `probe.failure_count`: 0 is not within 1 to 1000 | \
             write a number from 1 to 1000",
        ],
    );
}

#[test]
fn bad_targets() {
    let help = "write addresses that answer ping as a list, like [\"1.1.1.1\", \"2620:fe::fe\"]";
    expect_after_smallest(
        "[probe]\nquorum = 4\ntargets = [\n\"1.1.1.1/24\", \"fe80::1%eth0\",\n\"dns.google\",\n\
         \"1.1.1.256\", \"9.9.9.9\", \"9.9.9.9\", 8]\n",
        &[
            "8:1 `probe.targets`: \"1.1.1.1/24\" is not an IP address | \
             leave out the prefix length \"/24\"",
            "8:15 `probe.targets`: \"fe80::1%eth0\" is not an IP address | \
             leave out the interface \"%eth0\": linkbal adds the uplink's",
            &format!(
                "9:1 `probe.targets`: \"dns.google\" is not an IP address | {help}; \
                 names cannot be looked up while an uplink is down"
            ),
            &format!("10:1 `probe.targets`: \"1.1.1.256\" is not an IP address | {help}"),
            "10:25 `probe.targets`: 9.9.9.9 is listed twice | remove one of the two",
            &format!(
                "10:36 `probe.targets`: expected an IP address, found a whole number | {help}"
            ),
        ],
    );
}

#[test]
fn quorum_without_enough_targets() {
    expect_after_smallest(
        "probe = { quorum = 2 }\n[uplink.b]\ninterface = \"eth1\"\nprobe.quorum = 3\n\
         [uplink.c]\ninterface = \"eth2\"\nprobe.targets = [\"2001:db8::1\"]\n\
         [probe]\nquorum = 2\ntargets = [\"192.0.2.1\", \"192.0.2.2\", \"2001:db8::1\"]\n",
        &[
            "8:16 `uplink.b.probe.quorum`: 3 targets must answer, but only 2 for IPv4 and 1 for \
             IPv6 exist | write a quorum of at most 2, or add targets",
            "11:17 `uplink.c.probe.quorum`: 2 targets must answer, but only 0 for IPv4 and 1 for \
             IPv6 exist | write a quorum of at most 1, or add targets",
        ],
    );
    // Not compared with targets that were refused.
    let problems = problems(&format!("{SMALLEST}[probe]\nquorum = 4\ntargets = 4\n"));
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    assert!(problem.starts_with("7:11 `probe.targets`: expected a list"), "{problem}");
    // Reported where it is written, not for each uplink that takes it over.
    expect_after_smallest(
        "[uplink.b]\ninterface = \"eth1\"\n[probe]\nquorum = 4\n",
        &[
            "8:10 `probe.quorum`: 4 targets must answer, but only 3 for IPv4 and 3 for IPv6 exist | \
           write a quorum of at most 3, or add targets",
        ],
    );
}

#[test]
fn bad_sticky_classes() {
    let help = "write destination ports from 1 to 65535 as a list, like ports = [443]";
    expect_after_smallest(
        "[[sticky]]\nby = \"dst\"\nidle = \"1500ms\"\n[[sticky]]\nports = []\nidle = \"25h\"\n\
         [[sticky]]\nports = [443, 443, 0, 65536]\n[[sticky]]\nports = [22, 443]\n",
        &[
            &with_help("5:1 a sticky class without ports", help),
            "6:6 `sticky.by`: \"dst\" is unknown | \
             write \"src+dst\" (a source and a destination) or \"src\" (all flows of a source)",
            "7:8 `sticky.idle`: 1s 500ms has a part of a second | \
             write whole seconds, like \"2s\"",
            &with_help("9:9 `sticky.ports`: the list is empty", help),
            "10:8 `sticky.idle`: \"25h\" is not within 1s to 1d | \
             write a duration from 1s to 1d",
            "12:15 `sticky.ports`: 443 is listed twice | remove one of the two",
            "12:20 `sticky.ports`: 0 is not within 1 to 65535 | write a number from 1 to 65535",
            "12:23 `sticky.ports`: 65536 is not within 1 to 65535 | \
             write a number from 1 to 65535",
            "14:14 `sticky.ports`: 443 is listed twice | remove one of the two",
        ],
    );
    let classes: String = (1..=9).map(|port| format!("[[sticky]]\nports = [{port}]\n")).collect();
    expect_after_smallest(
        &classes,
        &["21:1 `sticky`: 9 classes, at most 8 are possible | \
           give ports that stick in the same way to one class"],
    );
}

#[test]
fn bad_kernel_numbers() {
    expect_after_smallest(
        "[kernel]\nfwmark_mask = 0x1_0000_0000\ntable_base = 0\nrule_priority = 32001\n\
         flow_table_size = 1023\n",
        &[
            "6:15 `kernel.fwmark_mask`: 0x100000000 is not within 1 to 4294967295 | \
             write a number from 1 to 4294967295",
            "7:14 `kernel.table_base`: 0 is not within 1 to 4294967248 | \
             write a number from 1 to 4294967248",
            "8:17 `kernel.rule_priority`: 32001 is not within 1 to 32000 | \
             write a number from 1 to 32000",
            "9:19 `kernel.flow_table_size`: 1023 is not within 1024 to 16777216 | \
             write a number from 1024 to 16777216",
        ],
    );
    for base in [206, 253, 255] {
        let message = format!(
            "6:14 `kernel.table_base`: tables {base} to {} include the kernel's own, 253 to 255 | \
             write a number from 1 to 205, or from 256",
            base + 47
        );
        expect_after_smallest(&format!("[kernel]\ntable_base = {base}\n"), &[&message]);
    }
}

#[test]
fn numbers_in_quotes() {
    expect_after_smallest(
        "weight = \"30%\"\n[kernel]\nfwmark_mask = \"0xff\"\n[[sticky]]\nports = [443]\nidle = 600\n",
        &[
            "5:10 `uplink.fiber.weight`: expected a whole number, found a text | \
             write 30, without quotes",
            "7:15 `kernel.fwmark_mask`: expected a whole number, found a text | \
             write 0xff, without quotes; it is a mask of at least 7 bits: five for the uplink, and two \
             flags",
            "10:8 `sticky.idle`: expected a duration, found a whole number | \
             write \"600s\": with a unit, in double quotes",
        ],
    );
}

#[test]
fn masks_that_do_not_fit() {
    expect_after_smallest(
        "[kernel]\nfwmark_mask = 0x5\n",
        &["6:15 `kernel.fwmark_mask`: the bits of 0x5 are not one run | \
           write a mask without gaps, like 0x7f000000"],
    );
    expect_after_smallest(
        "[kernel]\nfwmark_mask = 0xf00\n",
        &["6:15 `kernel.fwmark_mask`: the 4 bits of 0xf00 are too few | \
           write a mask of at least 7 bits: five for the uplink, and two flags"],
    );
    let narrow = format!("{}[kernel]\nfwmark_mask = 0x7f00\n", many_uplinks(4));
    assert_eq!(parse(&narrow).kernel.fwmark_mask, 0x7f00);
}

#[test]
fn bad_capacities() {
    let units = "write a number and one of bit, kbit, mbit and gbit (for each second) in double \
                 quotes, like \"100mbit\" or \"2.5gbit\"";
    let forms = "write a rate like \"100mbit\", or { down = \"100mbit\", up = \"20mbit\" }";
    let share = "write a share of the capacity from 0.1 to 1.0, like 0.9";
    expect_after_smallest(
        "capacity = \"100m\"\nspillover = 90\n\
         [uplink.b]\ninterface = \"eth1\"\ncapacity = 100\nspillover = \"0.9\"\n\
         [uplink.c]\ninterface = \"eth2\"\ncapacity = { down = \"1bit\" }\nspillover = 0.09\n\
         [uplink.d]\ninterface = \"eth3\"\nspillover = 1\n\
         [balance]\nadaptive = 1\n",
        &[
            &format!("5:12 `uplink.fiber.capacity`: \"100m\" is not a rate | {units}"),
            &format!("6:13 `uplink.fiber.spillover`: 90 is not within 0.1 to 1.0 | {share}"),
            &format!("9:12 `uplink.b.capacity`: expected a rate, found a whole number | {forms}"),
            &format!(
                "10:13 `uplink.b.spillover`: expected a decimal number, found a text | {share}"
            ),
            &format!("13:12 `up` is missing in the capacity | {forms}"),
            "13:21 `uplink.c.capacity.down`: \"1bit\" is not within 1kbit to 1000gbit | \
             write a rate from 1kbit to 1000gbit",
            &format!("14:13 `uplink.c.spillover`: 0.09 is not within 0.1 to 1.0 | {share}"),
            "17:13 `uplink.d.spillover`: it is a share of a capacity that is not given | \
             write the speed of the line beside it, like capacity = \"100mbit\"",
            "19:12 `balance.adaptive`: expected true or false, found a whole number | \
             write true or false, without quotes",
        ],
    );
}
