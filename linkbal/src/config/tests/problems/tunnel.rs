//! `over` and `endpoint`.

use std::net::IpAddr;

use super::*;

/// Returns three uplinks, of which the last one is a tunnel with these lines, from line 9 on.
fn with(lines: &str) -> String {
    format!(
        "[lan]\ninterfaces = [\"br-lan\"]\n[uplink.fiber]\ninterface = \"eth0\"\n\
         [uplink.cable]\ninterface = \"eth1\"\n[uplink.vpn]\ninterface = \"wg0\"\n{lines}\n"
    )
}

#[test]
fn a_tunnel_does_not_go_over_itself() {
    let itself = "name an uplink that is no such tunnel";
    expect(
        &with("over = [\"vpn\", \"fiber\"]"),
        &[&format!("9:9 `uplink.vpn.over`: a tunnel cannot go over itself | {itself}")],
    );
    let twin = "over = \"twin\"\n[uplink.twin]\ninterface = \"wg0\"\ngateway = \"192.0.2.1\"";
    expect(
        &with(twin),
        &[&format!("9:8 `uplink.vpn.over`: twin is on wg0, the tunnel itself | {itself}")],
    );
    let round = "over = \"inner\"\n[uplink.inner]\ninterface = \"gre1\"\nover = \"most\"\n\
                 [uplink.most]\ninterface = \"gre2\"\nover = \"vpn\"";
    expect(
        &with(round),
        &[
            &format!("9:8 `uplink.vpn.over`: inner itself goes over vpn | {itself}"),
            &format!("12:8 `uplink.inner.over`: most itself goes over inner | {itself}"),
            &format!("15:8 `uplink.most.over`: vpn itself goes over most | {itself}"),
        ],
    );
}

#[test]
fn what_a_tunnel_goes_over_exists_and_its_end_is_an_address() {
    expect(
        &with("over = [\"fibre\"]\nendpoint = [\"vpn.example.net\", \"0.0.0.0\"]"),
        &[
            "9:9 `uplink.vpn.over`: there is no uplink \"fibre\" | did you mean \"fiber\"? \
             the uplinks are: fiber, cable, vpn",
            "10:13 `uplink.vpn.endpoint`: \"vpn.example.net\" is not an IP address | write the \
             address of the tunnel's other end, like \"203.0.113.9\"; names cannot be looked up while \
             an uplink is down",
            "10:32 `uplink.vpn.endpoint`: 0.0.0.0 is the unspecified address | write the \
             address of the tunnel's other end, like \"203.0.113.9\"",
        ],
    );
    expect(
        &with("over = []"),
        &["9:8 `uplink.vpn.over`: the list is empty | write a value, or leave `over` out if any \
           will do"],
    );
}

#[test]
fn over_and_endpoint_are_one_value_or_a_list() {
    let text = with("over = [\"fiber\", \"cable\"]\nendpoint = \"203.0.113.9\"");
    let config = Config::parse(&text, "test").expect("a valid configuration");
    let vpn = config.uplinks.iter().find(|uplink| uplink.name == "vpn").expect("the tunnel");
    assert_eq!(vpn.over, ["fiber", "cable"]);
    assert_eq!(vpn.endpoints, ["203.0.113.9".parse::<IpAddr>().expect("an address")]);
}
