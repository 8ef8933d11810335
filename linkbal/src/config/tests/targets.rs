//! The kinds of targets of a probe.

use linkbal_common::uplink::Family;

use super::{problems::expect_after_smallest, *};

fn targets(list: &str) -> Vec<Target> {
    let text = "[lan]\ninterfaces = [\"br-lan\"]\n[uplink.a]\ninterface = \"eth0\"\n[probe]\n";
    parse(&format!("{text}targets = [{list}]\n")).uplinks[0].probe.targets.clone()
}

fn page(host: &str, port: u16, path: &str) -> HttpTarget {
    HttpTarget {
        secure: false,
        host: Host::Name(host.into()),
        port,
        path: path.into(),
        status: None,
        body: None,
    }
}

#[test]
fn every_kind_is_read_and_shown_as_it_is_written() {
    let list = [
        "1.1.1.1",
        "tcp://1.1.1.1:443",
        "tcp://[2001:db8::1]:443",
        "dns://9.9.9.9",
        "dns://[2620:fe::fe]",
        "dns://[2620:fe::fe]:5353/example.com",
        "ntp://192.0.2.1",
        "ntp://[2001:db8::1]:1123",
        "http://portal.example/generate_204",
        "http://portal.example:8080/a?b=c",
        "https://[2001:db8::1]/",
        "https://192.0.2.1:8443/",
        "gateway",
    ];
    let read = targets(&list.map(|text| format!("{text:?}")).join(", "));
    assert_eq!(read.iter().map(Target::to_string).collect::<Vec<_>>(), list);
    assert_eq!(read[1], Target::Tcp("1.1.1.1:443".parse().expect("an address")));
    let server = "9.9.9.9:53".parse().expect("an address");
    assert_eq!(read[3], Target::Dns { server, name: "a.root-servers.net".into() });
    assert_eq!(read[6], Target::Ntp("192.0.2.1:123".parse().expect("an address")));
    assert_eq!(read[8], Target::Http(page("portal.example", 80, "/generate_204")));
    assert_eq!(read[9], Target::Http(page("portal.example", 8080, "/a?b=c")));
    let host = Host::Address(address("2001:db8::1"));
    let secure = HttpTarget { secure: true, host, ..page("", 443, "/") };
    assert_eq!(read[10], Target::Http(secure));
    let both = [Family::Ipv4, Family::Ipv6];
    let judged = |target: &Target| both.map(|family| target.judges(family));
    let expected = [
        [true, false],
        [true, false],
        [false, true],
        [true, false],
        [false, true],
        [false, true],
        [true, false],
        [false, true],
        [true, true],
        [true, true],
        [false, true],
        [true, false],
        [true, true],
    ];
    assert_eq!(read.iter().map(judged).collect::<Vec<_>>(), expected);
}

#[test]
fn a_table_says_what_must_come_back() {
    let read = targets(
        "{ url = \"http://Portal.example\", status = 204 }, { url = \"http://b.example/\", body = \"ok\" }",
    );
    let first = HttpTarget { status: Some(204), ..page("portal.example", 80, "/") };
    let second = HttpTarget { body: Some("ok".into()), ..page("b.example", 80, "/") };
    assert_eq!(read, [Target::Http(first), Target::Http(second)]);
}

#[test]
fn bad_urls() {
    let tcp =
        "write an address and a port, like \"tcp://1.1.1.1:443\" or \"tcp://[2001:db8::1]:443\"";
    let dns = "write a server's address and perhaps a name to ask for, like \"dns://9.9.9.9\" or \
               \"dns://[2620:fe::fe]/example.com\"";
    let http = "write a host and a path, like \"http://example.com/alive\"";
    let table = "write it like { url = \"http://example.com/\", status = 204, body = \"what it \
                 contains\" }";
    let port = "write a port from 1 to 65535";
    let kinds = "write an address, \"gateway\", or tcp://, dns://, ntp://, http:// or https://";
    let cases = [
        ("\"tcp://1.1.1.1\"", "\"tcp://1.1.1.1\" is no address and port", tcp),
        ("\"tcp://example.com:80\"", "\"tcp://example.com:80\" is no address and port", tcp),
        ("\"tcp://1.1.1.1:0\"", "\"tcp://1.1.1.1:0\" has port 0", port),
        ("\"tcp://127.0.0.1:80\"", "127.0.0.1 is a loopback address", tcp),
        ("\"dns://dns.google\"", "\"dns://dns.google\" has no address of a server", dns),
        (
            "\"dns://9.9.9.9/a..b\"",
            "the name in \"dns://9.9.9.9/a..b\" has two dots in a row",
            "write a name like \"bank.com.br\", which stands for its subdomains, too",
        ),
        ("\"http:///x\"", "\"http:///x\" is not the address of a page", http),
        ("\"http://u@b.example/\"", "\"http://u@b.example/\" has the name of a user", http),
        ("\"http://b.example:x/\"", "\"http://b.example:x/\" has no number as its port", http),
        ("\"http://0.0.0.0/\"", "0.0.0.0 is the unspecified address", http),
        ("\"ftp://b.example/\"", "\"ftp://b.example/\" is of an unknown kind", kinds),
        ("{ status = 204 }", "a target without url", table),
        ("{ url = \"http://b.example/\", x = 1 }", "unknown key `x`", table),
        ("{ url = \"1.1.1.1\" }", "\"1.1.1.1\" is not the address of a page", http),
        (
            "{ url = \"http://b.example/\", status = 99 }",
            "99 is not within 100 to 599",
            "write a number from 100 to 599",
        ),
    ];
    for (text, message, help) in cases {
        let expected = format!("6:12 `probe.targets`: {message} | {help}");
        expect_after_smallest(&format!("[probe]\ntargets = [{text}]\n"), &[&expected]);
    }
}

proptest! {
    #[test]
    fn hostile_targets_are_harmless(text in "(tcp|dns|ntp|http|https)://[\\[\\]:./@a-z0-9%?#-]{0,20}") {
        let toml = format!(
            "[lan]\ninterfaces = [\"l\"]\n[uplink.a]\ninterface = \"e\"\n[probe]\ntargets = [{text:?}]\n"
        );
        if let Ok(config) = Config::parse(&toml, "test") {
            let shown = config.uplinks[0].probe.targets[0].to_string();
            let again = Config::parse(&toml.replace(&format!("{text:?}"), &format!("{shown:?}")), "test");
            prop_assert_eq!(again.expect("what is shown is valid"), config);
        }
    }
}
