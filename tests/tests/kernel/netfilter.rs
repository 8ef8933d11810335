//! The nft table and connection tracking.

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use linkbal::{
    config::Npt,
    engine::kernel::{
        network::Change,
        nft_text::{self, Nft as Text, NftExempt, NftFirewall, NftUplink, NftValidation},
    },
    sys::{Kernel, conntrack, nft::Nft},
};
use linkbal_common::{
    mark::{DEFAULT_MASK, MarkMask},
    uplink::Family,
};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tempfile::tempdir;
use tokio::time;

use crate::namespace::{self, output, shell};

/// Replaces the table, however long nft takes on a busy machine.
async fn replace(nft: &mut Nft, text: &str) -> Result<()> {
    loop {
        match nft.replace(text).await {
            Err(error) if format!("{error:#}").contains("has not answered") => {
                time::sleep(Duration::from_millis(50)).await;
            }
            result => return result,
        }
    }
}

fn uplink(ifname: &str, fwmark: u32, sole_on_interface: bool) -> NftUplink {
    let index = MarkMask(DEFAULT_MASK).decode(fwmark).expect("the mark of an uplink");
    NftUplink {
        ifname: ifname.into(),
        // Of no interface that there is.
        ifindex: Some(1000 + index),
        index,
        sole_on_interface,
        addresses: Vec::new(),
        prefixes: Vec::new(),
        mtu: None,
        npt: None,
        virtual_addresses: Vec::new(),
        translates: Family::ALL.into(),
        foreign: vec!["198.51.100.0/24".parse().expect("a prefix")],
        strangers: vec!["other0".into()],
    }
}

/// Returns the table of these uplinks, on a machine with other networks as well.
fn ruleset(uplinks: &[NftUplink], mask: u32) -> String {
    let lan = vec!["lan0".to_owned()];
    let uplinks = uplinks.to_vec();
    nft_text::ruleset(&Text {
        uplinks,
        mask: MarkMask(mask),
        lan,
        lan_indexes: Vec::new(),
        others: true,
        bridged: false,
        ipsec: true,
        exempt: exempt(),
        firewall: NftFirewall {
            established: Family::ALL.into(),
            transit: false,
            wide: vec!["tun0".into()],
        },
        validation: NftValidation::default(),
    })
}

/// Returns an uplink with two prefixes of its provider, the first of which another prefix is
/// translated to.
fn with_prefixes([mapped, native]: [&str; 2], uplink: NftUplink) -> NftUplink {
    let net = |text: &str| text.parse().expect("a prefix");
    let npt = Npt { internal: net("fd00::/64"), external: net(mapped) };
    let prefixes = [mapped, native].map(|text| text.parse().expect("a prefix"));
    NftUplink { prefixes: prefixes.into(), npt: Some(npt), ..uplink }
}

/// Returns exemptions from translation: one for any uplink, and one for a list of all of them.
fn exempt() -> Vec<NftExempt> {
    let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a prefix")).collect();
    vec![
        NftExempt {
            source: nets(&["10.0.0.0/24", "10.0.0.9/32", "fd00::/64"]),
            destination: nets(&["192.168.50.0/24", "fd50::/64"]),
            uplinks: None,
        },
        NftExempt {
            source: Vec::new(),
            destination: nets(&["10.0.0.0/8"]),
            uplinks: Some((0..5).collect()),
        },
    ]
}

fn text() -> String {
    ruleset(
        &[
            uplink("wan0", 0x100_0000, true),
            NftUplink {
                addresses: vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
                ..uplink("shared", 0x200_0000, false)
            },
            NftUplink {
                // One that contains an address, one of IPv4; and no translation.
                addresses: vec!["2001:db8:a::7".parse().expect("an address")],
                translates: Vec::new(),
                ..with_prefixes(
                    ["2001:db8:a::/64", "198.51.100.64/28"],
                    uplink("shared", 0x300_0000, false),
                )
            },
            NftUplink {
                addresses: vec![Ipv6Addr::LOCALHOST.into()],
                ..with_prefixes(
                    ["2001:db8:b::/64", "2001:db8:b:100::/56"],
                    uplink("eth0.5@{$;#", 0x400_0000, true),
                )
            },
            NftUplink { translates: vec![Family::Ipv4], ..uplink("lte0", 0x500_0000, true) },
        ],
        DEFAULT_MASK,
    )
}

fn tables() -> Result<Vec<String>> {
    let listing: Value = serde_json::from_str(&output("nft", &["-j", "list", "tables"], "")?)?;
    let tables = listing["nftables"].as_array().into_iter().flatten();
    Ok(tables.filter_map(|entry| Some(entry["table"]["name"].as_str()?.to_owned())).collect())
}

#[test]
fn nft_accepts_the_text() {
    namespace::run(|| async {
        for text in [text(), ruleset(&[], DEFAULT_MASK)] {
            output("nft", &["-c", "-f", "-"], &text)?;
        }
        assert!(tables()?.is_empty());
        Ok(())
    });
}

#[test]
fn the_table_is_current_until_it_is_changed() {
    namespace::run(|| async {
        let directory = tempdir()?;
        let (mut kernel, _events) = Kernel::connect(directory.path())?;
        shell("nft add table inet foreign")?;
        for touch in [
            "nft flush ruleset",
            "nft flush chain inet linkbal postrouting",
            "nft add rule inet linkbal prerouting drop",
            "nft add chain inet linkbal other",
            "nft delete table inet linkbal",
        ] {
            for _ in 0..2 {
                kernel.apply(&Change::ReplaceNft(text())).await?;
                assert!(kernel.snapshot(&[]).await?.nft_current);
            }
            shell(touch)?;
            assert!(!kernel.snapshot(&[]).await?.nft_current, "{touch}");
        }
        kernel.apply(&Change::ReplaceNft(text())).await?;
        shell("nft add table inet foreign")?;
        assert!(kernel.snapshot(&[]).await?.nft_current);
        assert_eq!(tables()?, ["linkbal", "foreign"]);
        Ok(())
    });
}

/// Puts a program `nft` into `folder` that runs the real one, and `then` after a run that wrote.
fn wrap_nft(folder: &Path, then: &str) -> Result<()> {
    let real = output("sh", &["-c", "command -v nft"], "")?;
    let script = format!(
        "#!/bin/sh\nreal={}\n$real \"$@\"\ncode=$?\n\
         case \"$*\" in *'-f -'*) {then} ;; esac\nexit $code\n",
        real.trim()
    );
    let path = folder.join("nft");
    fs::write(&path, script)?;
    Ok(fs::set_permissions(&path, Permissions::from_mode(0o755))?)
}

/// Checks that changes by others are noticed, even before linkbal has read its own table back.
#[test]
fn changes_of_others_right_after_the_write_are_not_taken_for_ours() {
    namespace::run(|| async {
        let folder = tempdir()?;
        for then in [
            "$real delete table inet linkbal",
            "$real flush ruleset",
            "$real flush chain inet linkbal postrouting",
            "$real add rule inet linkbal prerouting drop",
            "$real add chain inet linkbal other",
        ] {
            wrap_nft(folder.path(), then)?;
            let mut nft = Nft::by(folder.path().join("nft"));
            replace(&mut nft, &text()).await.context(then)?;
            assert!(!nft.is_current().await?, "{then}");
        }
        Ok(())
    });
}

/// Checks that nft's echo is enough to compare, even if others change their tables all the time.
#[test]
fn writes_to_other_tables_do_not_make_ours_stale() {
    namespace::run(|| async {
        let folder = tempdir()?;
        wrap_nft(folder.path(), "$real add table inet foreign")?;
        let every_kind = "table inet linkbal {
            set s { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.0.2.1 }; }
            map m { type mark : verdict; elements = { 3 : drop, 1 : accept }; }
            counter c { }
            chain forward { type filter hook forward priority 0; ip saddr @s counter name c;
            meta mark vmap @m; ct mark set meta mark map { 0x2 : 0x20, 0x1 : 0x10 };
            oifname { \"b\", \"a\" } counter; }
            }\n";
        for text in [text(), ruleset(&[], DEFAULT_MASK), every_kind.to_owned()] {
            let mut nft = Nft::by(folder.path().join("nft"));
            replace(&mut nft, &text).await?;
            assert!(nft.is_current().await?, "{text}");
            shell("nft add chain inet linkbal of_others")?;
            assert!(!nft.is_current().await?, "{text}");
            shell("nft delete table inet linkbal")?;
        }
        Ok(())
    });
}

#[test]
fn counters_do_not_make_the_table_stale() {
    namespace::run(|| async {
        let mut nft = Nft::default();
        replace(&mut nft,
            "table inet linkbal { chain output { type filter hook output priority 0; counter; }; }\n",
        )
        .await?;
        UdpSocket::bind("127.0.0.1:0")?.send_to(b"hello", "127.0.0.1:9")?;
        let listing = output("nft", &["list", "table", "inet", "linkbal"], "")?;
        assert!(!listing.contains("packets 0"), "{listing}");
        assert!(nft.is_current().await?);
        Ok(())
    });
}

#[test]
fn a_text_that_nft_refuses_changes_nothing() {
    namespace::run(|| async {
        let mut nft = Nft::default();
        assert!(!nft.is_current().await?);
        replace(&mut nft, &text()).await?;
        let before = output("nft", &["list", "ruleset"], "")?;
        let error = replace(&mut nft, &text().replace("masquerade", "masquerodo"))
            .await
            .expect_err("there is no such word");
        assert!(format!("{error:#}").contains("syntax error"), "{error:#}");
        assert_eq!(output("nft", &["list", "ruleset"], "")?, before);
        for _ in 0..2 {
            nft.delete()?;
            assert!(tables()?.is_empty());
            assert!(!nft.is_current().await?);
        }
        Ok(())
    });
}

/// Returns the mark of the connection that a datagram with `fwmark` makes, and whether it left with
/// the address of the uplink.
fn mark_and_masquerade(ipv6: bool, fwmark: u32) -> Result<(u32, bool)> {
    let (source, destination, uplink): (SocketAddr, SocketAddr, _) = if ipv6 {
        ("[fd00::1]:0".parse()?, "[2001:db8::77]:9".parse()?, "2001:db8::2")
    } else {
        ("10.0.0.1:0".parse()?, "192.0.2.77:9".parse()?, "192.0.2.2")
    };
    let socket = Socket::new(Domain::for_address(source), Type::DGRAM, None)?;
    socket.set_mark(fwmark)?;
    socket.bind(&source.into())?;
    socket.send_to(b"hello", &destination.into())?;
    let port = socket.local_addr()?.as_socket().context("no address")?.port();
    let port = port.to_string();
    let family = if ipv6 { "ipv6" } else { "ipv4" };
    let listing = output("conntrack", &["-L", "-f", family, "-p", "udp", "--sport", &port], "")?;
    let mark = listing.split_whitespace().find_map(|field| field.strip_prefix("mark="));
    let mark = mark.with_context(|| format!("no mark in {listing:?}"))?.parse()?;
    Ok((mark, listing.contains(&format!("dst={uplink} "))))
}

#[test]
fn connections_carry_the_mark_of_their_uplink_and_its_address() {
    namespace::run(|| async {
        shell("ip addr add 10.0.0.1/32 dev lo; ip addr add fd00::1/128 dev lo")?;
        namespace::wait_for_routes("local fd00::1/128", 1)?;
        let mut nft = Nft::default();
        let foreign = 0x8000_0005;
        for ipv6 in [false, true] {
            replace(&mut nft, &ruleset(&[uplink("wan0", 0x100_0000, true)], DEFAULT_MASK)).await?;
            assert_eq!(mark_and_masquerade(ipv6, 0x100_0000 | foreign)?, (0x100_0000, true));
            assert_eq!(mark_and_masquerade(ipv6, foreign)?, (0x100_0000, true));

            let shared = [uplink("wan0", 0x100_0000, false), uplink("wan0", 0x200_0000, false)];
            replace(&mut nft, &ruleset(&shared, DEFAULT_MASK)).await?;
            assert_eq!(mark_and_masquerade(ipv6, 0x200_0000 | foreign)?, (0x200_0000, true));
            assert_eq!(mark_and_masquerade(ipv6, foreign)?, (0, true));

            replace(&mut nft, &ruleset(&[uplink("isp0", 0x100_0000, true)], DEFAULT_MASK)).await?;
            assert_eq!(mark_and_masquerade(ipv6, 0x100_0000)?, (0, false));
        }
        Ok(())
    });
}

/// Returns the marks of all entries of a family, sorted.
fn marks(family: &str) -> Result<Vec<u32>> {
    let listing = output("conntrack", &["-L", "-f", family], "")?;
    let fields = listing.split_whitespace().filter_map(|field| field.strip_prefix("mark="));
    let mut marks = fields.map(str::parse).collect::<Result<Vec<u32>, _>>()?;
    marks.sort_unstable();
    Ok(marks)
}

#[test]
fn only_connections_of_the_family_and_the_fwmark_are_deleted() {
    namespace::run(|| async {
        let fwmarks =
            [0, 0x5, 0x100_0000, 0x100_0005, 0x200_0000, 0x8100_0000, 0x1100_0000, 0x4100_0000];
        for (port, fwmark) in (1000..).zip(fwmarks) {
            for (source, destination) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
                shell(&format!(
                    "conntrack -I -s {source} -d {destination} -p udp --sport {port} --dport 53 \
                     -t 600 -m {fwmark}"
                ))?;
            }
        }
        let mut all = fwmarks.to_vec();
        all.sort_unstable();
        let mut others = all.clone();
        others.retain(|fwmark| fwmark & DEFAULT_MASK != 0x100_0000);
        assert_eq!((marks("ipv4")?, marks("ipv6")?), (all.clone(), all.clone()));
        for _ in 0..2 {
            conntrack::delete(Family::Ipv6, 0x100_0000, DEFAULT_MASK)?;
            assert_eq!((marks("ipv4")?, marks("ipv6")?), (all.clone(), others.clone()));
        }
        conntrack::delete(Family::Ipv4, 0x100_0000, DEFAULT_MASK)?;
        assert_eq!((marks("ipv4")?, marks("ipv6")?), (others.clone(), others));
        Ok(())
    });
}
