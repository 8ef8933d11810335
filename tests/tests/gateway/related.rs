//! Connections that belong to others: the data of FTP and the voice of SIP, with the helpers of the
//! kernel and without. Providers drop packets with others' addresses.

use std::fs::{self, Permissions};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::Duration;

use linkbal_lab::namespace::{Namespace, Process};
use linkbal_lab::topology::plan::{self, Family};
use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::wait;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::fixture::{Gateway, LIMIT};

/// Number of transfers of each kind.
const TRANSFERS: usize = 20;
/// Number of calls of each kind.
const CALLS: usize = 16;
const SIP: u16 = 5060;
/// Protocols without ports (IANA, "Assigned Internet Protocol Numbers").
const GRE: i32 = 47;
const ESP: i32 = 50;
/// Ports of voice, of the client and of the server.
const VOICE: [u16; 2] = [4000, 6000];
/// Helpers of connection tracking, as a firewall assigns them.
const HELPERS: &str = r#"table inet helpers {
    ct helper ftp { type "ftp" protocol tcp; }
    ct helper sip { type "sip" protocol udp; }
    chain prerouting {
        type filter hook prerouting priority filter;
        tcp dport 21 ct helper set "ftp"
        udp dport 5060 ct helper set "sip"
    }
}"#;

/// Starts a gateway whose providers filter. With helpers nothing is sticky: they alone must do.
fn gateway(helpers: bool) -> Gateway {
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    lab.filter_sources().unwrap();
    if helpers {
        lab.gateway.load_nft(HELPERS).unwrap();
    }
    Gateway::start(
        lab,
        |config| {
            if helpers { format!("sticky = []\n{config}") } else { config.to_owned() }
        },
    )
}

/// Checks that no packet left with an address of another uplink, and that both were used.
fn assert_own_sources(gateway: &Gateway) {
    for uplink in 0..gateway.lab.uplinks.len() {
        let (own, foreign) = gateway.lab.filtered(uplink).unwrap();
        assert!(own > 0 && foreign == 0, "uplink {uplink}: {own} own, {foreign} foreign packets");
    }
}

/// Starts vsftpd for everyone, with one file.
fn vsftpd(namespace: &Namespace) -> (Process, TempDir) {
    let folder = TempDir::with_prefix("linkbal-lab-").unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    for name in ["root", "empty"] {
        fs::create_dir(path(name)).unwrap();
        fs::set_permissions(path(name), Permissions::from_mode(0o555)).unwrap();
    }
    fs::write(path("root/file"), "x".repeat(20_000)).unwrap();
    let config = format!(
        "listen=NO\nlisten_ipv6=YES\nbackground=NO\nanonymous_enable=YES\nno_anon_password=YES\n\
         anon_root={}\nsecure_chroot_dir={}\nseccomp_sandbox=NO\nisolate=NO\nisolate_network=NO\n\
         connect_from_port_20=YES\nxferlog_enable=NO\n",
        path("root"),
        path("empty"),
    );
    fs::write(path("config"), config).unwrap();
    let mut command = namespace.command("vsftpd");
    command.arg(path("config")).stdin(Stdio::null());
    let mut process = namespace.spawn(&mut command).unwrap();
    wait::until("a listening vsftpd", LIMIT, || {
        assert!(process.ended()?.is_none(), "vsftpd ended");
        let listening = namespace.run("ss", &["-Hltn", "sport", "=", "21"])?;
        Ok((!listening.trim().is_empty()).then_some(()))
    })
    .unwrap();
    (process, folder)
}

/// Fetches the file from many servers by as many clients; returns what failed.
fn transfers(gateway: &Gateway, family: Family, kind: &[&str]) -> Vec<String> {
    let lan = &gateway.lab.lan;
    let script = (0..TRANSFERS).map(|number| {
        let client = plan::client(family, number);
        let server = SocketAddr::new(plan::server(family, 7 * number), 21);
        let kind = kind.join(" ");
        format!(
            "curl --disable --noproxy '*' --silent --show-error --globoff --max-time 20 \
             --interface {client} {kind} --output /dev/null \
             --write-out '%{{size_download}}\\n' ftp://{server}/file 2>&1 | tail -n 1 &\n"
        )
    });
    let script = script.collect::<String>() + "wait\n";
    let lines = lan.run_with_input("sh", &["-s"], &script).unwrap();
    assert_eq!(lines.lines().count(), TRANSFERS, "{lines}");
    lines.lines().filter(|line| *line != "20000").map(str::to_owned).collect()
}

fn assert_transfers(gateway: &Gateway, kinds: &[(Family, &[&str])]) {
    for (family, kind) in kinds {
        let failed = transfers(gateway, *family, kind);
        assert!(failed.is_empty(), "{family} {kind:?}: {} failed: {failed:?}", failed.len());
    }
    assert_own_sources(gateway);
}

const EPSV: &[&str] = &[];
const PASV: &[&str] = &["--disable-epsv"];
const EPRT: &[&str] = &["--ftp-port", "-"];
const PORT: &[&str] = &["--ftp-port", "-", "--disable-eprt"];

#[test]
fn ftp_data_follows_its_control_connection_by_the_helper() {
    let gateway = gateway(true);
    let _vsftpd = vsftpd(&gateway.lab.net);
    let ipv4 = [EPSV, PASV, EPRT, PORT].map(|kind| (Family::V4, kind));
    let ipv6 = [EPSV, EPRT].map(|kind| (Family::V6, kind));
    assert_transfers(&gateway, &[&ipv4[..], &ipv6].concat());
}

#[test]
fn passive_ftp_data_follows_its_control_connection_without_a_helper() {
    let gateway = gateway(false);
    let _vsftpd = vsftpd(&gateway.lab.net);
    let kinds = [(Family::V4, EPSV), (Family::V4, PASV), (Family::V6, EPSV)];
    assert_transfers(&gateway, &kinds);
}

/// A telephone, or the other end of a call.
struct Phone {
    signalling: UdpSocket,
    voice: UdpSocket,
}

impl Phone {
    fn new(namespace: &Namespace, address: IpAddr, voice: u16) -> Self {
        let _entered = namespace.enter().unwrap();
        let socket = |port| {
            let socket = UdpSocket::bind((address, port)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            socket
        };
        Self { signalling: socket(SIP), voice: socket(voice) }
    }
}

/// Returns a SIP message (RFC 3261) with a description of where voice is expected (RFC 8866).
fn message(start: &str, caller: SocketAddr, own: SocketAddr, voice: u16, number: usize) -> String {
    let version = if own.is_ipv4() { "IP4" } else { "IP6" };
    let address = own.ip();
    let body = format!(
        "v=0\r\no=- 1 1 IN {version} {address}\r\ns=-\r\nc=IN {version} {address}\r\nt=0 0\r\n\
         m=audio {voice} RTP/AVP 0\r\n"
    );
    format!(
        "{start}\r\nVia: SIP/2.0/UDP {caller};branch=z9hG4bK{number}\r\n\
         From: <sip:a@{caller}>;tag=1\r\nTo: <sip:b@example.net>\r\nCall-ID: {number}@example.net\r\n\
         CSeq: 1 INVITE\r\nContact: <sip:x@{own}>\r\nMax-Forwards: 70\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Returns the address at which a description expects voice.
fn described(message: &str) -> SocketAddr {
    let field = |prefix: &str| {
        let line = message.lines().find_map(|line| line.strip_prefix(prefix));
        line.unwrap_or_else(|| panic!("no {prefix} in {message}")).split(' ').collect::<Vec<_>>()
    };
    SocketAddr::new(field("c=IN ")[1].parse().unwrap(), field("m=audio ")[0].parse().unwrap())
}

fn receive(socket: &UdpSocket, what: &str) -> (String, SocketAddr) {
    let mut buffer = [0; 2000];
    let (size, peer) =
        socket.recv_from(&mut buffer).unwrap_or_else(|error| panic!("{what}: {error}"));
    (String::from_utf8_lossy(&buffer[..size]).into_owned(), peer)
}

/// Makes a call, in which both ends must be heard; returns the uplinks of signalling and of voice.
fn call(lab: &Lab, family: Family, number: usize, helpers: bool) -> [Option<usize>; 2] {
    let (own, server) = (plan::client(family, number), plan::server(family, 7 * number));
    let [caller, callee] =
        [Phone::new(&lab.lan, own, VOICE[0]), Phone::new(&lab.net, server, VOICE[1])];
    let (own, server) = (SocketAddr::new(own, SIP), SocketAddr::new(server, SIP));
    let invite = message(&format!("INVITE sip:b@{server} SIP/2.0"), own, own, VOICE[0], number);
    caller.signalling.send_to(invite.as_bytes(), server).unwrap();
    let (invite, peer) = receive(&callee.signalling, "INVITE");
    let via = invite.lines().find_map(|line| line.strip_prefix("Via: SIP/2.0/UDP ")).unwrap();
    let via: SocketAddr = via.split(';').next().unwrap().parse().unwrap();
    let answer = message("SIP/2.0 200 OK", via, server, VOICE[1], number);
    callee.signalling.send_to(answer.as_bytes(), peer).unwrap();
    let (answer, _) = receive(&caller.signalling, "200 OK");
    if helpers {
        // The callee speaks first, to the address that the helper gave.
        let awaited = described(&invite);
        assert_eq!(awaited.ip(), peer.ip(), "voice is awaited where signalling comes from");
        callee.voice.send_to(b"callee", awaited).unwrap();
        assert_eq!(receive(&caller.voice, "voice to the caller").0, "callee");
    }
    caller.voice.send_to(b"caller", described(&answer)).unwrap();
    let (text, from) = receive(&callee.voice, "voice to the callee");
    assert_eq!(text, "caller");
    callee.voice.send_to(b"again", from).unwrap();
    assert_eq!(receive(&caller.voice, "an answer to the caller").0, "again");
    [peer, from].map(|peer| plan::uplink_of(peer.ip()))
}

fn assert_calls(helpers: bool) {
    let gateway = gateway(helpers);
    let each = Family::ALL.into_iter().flat_map(|family| (0..CALLS).map(move |at| (family, at)));
    let calls = each.map(|(family, number)| call(&gateway.lab, family, number, helpers));
    let calls: Vec<_> = calls.collect();
    let both = (0..2).all(|uplink| calls.iter().any(|call| call[0] == Some(uplink)));
    assert!(both && calls.iter().all(|[a, b]| a == b), "{calls:?}");
    assert_own_sources(&gateway);
}

#[test]
fn sip_voice_follows_its_call_by_the_helper() {
    assert_calls(true);
}

#[test]
fn sip_voice_follows_its_call_without_a_helper() {
    assert_calls(false);
}

/// Returns the uplink by which a packet of `protocol` reaches a server, which only listens.
fn tunnel(lab: &Lab, client: IpAddr, server: IpAddr, protocol: i32) -> Option<usize> {
    let socket = |namespace: &Namespace, address: IpAddr| {
        let _entered = namespace.enter().unwrap();
        let domain = Domain::for_address(SocketAddr::new(address, 0));
        let socket = Socket::new(domain, Type::RAW, Some(protocol.into())).unwrap();
        socket.bind(&SocketAddr::new(address, 0).into()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        UdpSocket::from(socket)
    };
    let listener = socket(&lab.net, server);
    // GRE without anything, or ESP with an unknown index.
    let packet = if protocol == GRE { [0, 0, 8, 0, 0, 0, 0, 0] } else { [1, 2, 3, 4, 0, 0, 0, 1] };
    socket(&lab.lan, client).send_to(&packet, SocketAddr::new(server, 0)).unwrap();
    plan::uplink_of(receive(&listener, "a tunnelled packet").1.ip())
}

#[test]
fn esp_and_gre_follow_the_connection_that_opened_them() {
    let gateway = gateway(false);
    let lab = &gateway.lab;
    for family in Family::ALL {
        for (port, protocol) in [(500, ESP), (1723, GRE)] {
            let mut used = [0; 2];
            for number in 0..TRANSFERS {
                // ESP and GRE have sessions of their own.
                let number = number + if protocol == ESP { 0 } else { TRANSFERS };
                let [client, server] =
                    [plan::client(family, number), plan::server(family, 7 * number)];
                let control = control(lab, client, SocketAddr::new(server, port)).unwrap();
                let tunnel = tunnel(lab, client, server, protocol);
                assert_eq!(tunnel, Some(control), "{family}, protocol {protocol}, client {number}");
                used[control] += 1;
            }
            assert!(used.iter().all(|count| *count > 0), "{used:?}");
        }
    }
    assert_own_sources(&gateway);
}

/// Returns the uplink by which a server is contacted: with a datagram on the port of IKE, otherwise
/// by TCP.
fn control(lab: &Lab, client: IpAddr, server: SocketAddr) -> Option<usize> {
    let own = SocketAddr::new(client, 0);
    if server.port() == 500 {
        let listener = {
            let _entered = lab.net.enter().unwrap();
            UdpSocket::bind(server).unwrap()
        };
        listener.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let _entered = lab.lan.enter().unwrap();
        UdpSocket::bind(own).unwrap().send_to(b"IKE", server).unwrap();
        return plan::uplink_of(receive(&listener, "a datagram").1.ip());
    }
    let listener = {
        let _entered = lab.net.enter().unwrap();
        TcpListener::bind(server).unwrap()
    };
    let _entered = lab.lan.enter().unwrap();
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None).unwrap();
    socket.bind(&own.into()).unwrap();
    socket.connect_timeout(&server.into(), Duration::from_secs(10)).unwrap();
    plan::uplink_of(listener.accept().unwrap().1.ip())
}
