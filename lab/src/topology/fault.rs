//! Faults of uplinks: pulled cables and providers that drop packets.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};

use super::{CUSTOMER_INTERFACE, Lab};

/// Rules by which the provider drops everything it should forward, receive or send; its interface
/// stays up.
const BLACKHOLE: &str = "
table inet blackhole {
    chain forward { type filter hook forward priority -300; policy drop; }
    chain input { type filter hook input priority -300; policy drop; }
    chain output { type filter hook output priority -300; policy drop; }
}
";

/// The way in which a provider that is cut off treats packets that it cannot forward. Its own hosts
/// answer as usual; ICMP, and so probes, is always dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamOutage {
    /// The provider drops them.
    Silent,
    /// The provider answers TCP with a reset in the server's name, and drops the rest.
    Reset,
    /// The provider tells the sender of each packet, by ICMP, that there is no route.
    Unreachable,
    /// The provider accepts TCP connections in the server's name, as captive portals do: a server
    /// at [`UpstreamOutage::PORTAL`] in its namespace gets them.
    Portal,
}

impl UpstreamOutage {
    /// The port of the portal.
    pub const PORTAL: u16 = 8000;

    fn rules(self) -> &'static str {
        match self {
            Self::Silent | Self::Portal => "",
            Self::Reset => "meta l4proto tcp reject with tcp reset",
            Self::Unreachable => "reject with icmpx type no-route",
        }
    }
}

/// Rules by which the provider does not receive ARP either.
const NO_ARP: &str = "
table arp blackhole {
    chain input { type filter hook input priority 0; policy drop; }
}
";

impl Lab {
    /// Pulls the cable of an uplink: the gateway's interface loses its carrier. Returns the moment
    /// just before.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn cut_cable(&self, uplink: usize) -> Result<SystemTime> {
        self.set_cable(uplink, false)
    }

    /// Plugs the cable of an uplink in again. Returns the moment just before.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn plug_cable(&self, uplink: usize) -> Result<SystemTime> {
        self.set_cable(uplink, true)
    }

    /// Makes the provider drop every packet while the carrier stays. Returns the moment just before
    /// `nft` was started.
    ///
    /// # Errors
    /// When `nft` refuses.
    pub fn blackhole(&self, uplink: usize) -> Result<SystemTime> {
        self.nft(uplink, BLACKHOLE)
    }

    /// Makes the provider drop every IPv6 packet, and no other. [`Lab::restore`] ends it, too.
    ///
    /// # Errors
    /// When `nft` refuses.
    pub fn blackhole_ipv6(&self, uplink: usize) -> Result<SystemTime> {
        self.nft(uplink, &BLACKHOLE.replace("policy drop;", "meta nfproto ipv6 drop;"))
    }

    /// Makes the provider drop ICMP, and so probes, but forward everything else, as some do to
    /// traffic that is not urgent while a line is full. [`Lab::restore`] ends it, too.
    ///
    /// # Errors
    /// When `nft` refuses.
    pub fn drop_pings(&self, uplink: usize) -> Result<SystemTime> {
        self.nft(
            uplink,
            "table inet blackhole {
                chain forward {
                    type filter hook forward priority 0;
                    meta l4proto { icmp, ipv6-icmp } drop
                }
            }",
        )
    }

    /// Cuts the provider off from the internet, but not from its own hosts. [`Lab::restore`] ends
    /// it, too.
    ///
    /// # Errors
    /// When `nft` refuses.
    pub fn cut_upstream(&self, uplink: usize, how: UpstreamOutage) -> Result<SystemTime> {
        let portal = match how {
            UpstreamOutage::Portal => format!(
                "chain portal {{
                    type nat hook prerouting priority -100;
                    iifname {CUSTOMER_INTERFACE} fib daddr type != local meta l4proto tcp \
                        redirect to :{}
                }}",
                UpstreamOutage::PORTAL
            ),
            _ => String::new(),
        };
        self.nft(
            uplink,
            &format!(
                "table inet blackhole {{
                    chain forward {{
                        type filter hook forward priority 0; policy drop;
                        meta l4proto {{ icmp, ipv6-icmp }} drop
                        iifname {CUSTOMER_INTERFACE} {}
                    }}
                    {portal}
                }}",
                if how.rules().is_empty() { "drop" } else { how.rules() }
            ),
        )
    }

    /// Makes the provider drop three of ten packets from its customer, at random, while the carrier
    /// stays. [`Lab::restore`] ends it, too.
    ///
    /// # Errors
    /// When `nft` refuses.
    pub fn brown_out(&self, uplink: usize) -> Result<SystemTime> {
        self.nft(
            uplink,
            &format!(
                "table inet blackhole {{
                    chain forward {{
                        type filter hook forward priority -300;
                        iifname {CUSTOMER_INTERFACE} numgen random mod 10 < 3 drop
                    }}
                }}"
            ),
        )
    }

    /// Ends a black hole, a brown-out or another fault of the provider. Returns the moment just
    /// before `nft` was started.
    ///
    /// # Errors
    /// When there is none.
    pub fn restore(&self, uplink: usize) -> Result<SystemTime> {
        self.nft(uplink, "delete table inet blackhole")
    }

    /// Deletes the gateway's interface; [`Lab::connect_customer`] makes it again. Returns the
    /// moment just before `ip` was started.
    ///
    /// # Errors
    /// When there is none.
    pub fn delete_interface(&self, uplink: usize) -> Result<SystemTime> {
        let moment = SystemTime::now();
        let interface = &self.uplinks[uplink].spec.interface;
        self.gateway.run("ip", &["link", "delete", interface])?;
        Ok(moment)
    }

    /// Makes the next hop disappear: ARP and neighbour solicitations are not answered while the
    /// carrier stays, and the gateway's kernel, which has to ask again, finds out fast.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn silence_nexthop(&self, uplink: usize) -> Result<SystemTime> {
        let interface = &self.uplinks[uplink].spec.interface;
        for family in ["ipv4", "ipv6"] {
            let key = format!("net.{family}.neigh.{interface}.retrans_time_ms");
            self.gateway.set_sysctl(&key, "100")?;
        }
        let moment = self.nft(uplink, &(BLACKHOLE.to_owned() + NO_ARP))?;
        self.gateway.run("ip", &["neigh", "flush", "dev", interface])?;
        Ok(moment)
    }

    /// Ends the fault of [`Lab::silence_nexthop`].
    ///
    /// # Errors
    /// When there is none.
    pub fn restore_nexthop(&self, uplink: usize) -> Result<SystemTime> {
        self.nft(uplink, "delete table arp blackhole\ndelete table inet blackhole\n")
    }

    fn nft(&self, uplink: usize, text: &str) -> Result<SystemTime> {
        let moment = SystemTime::now();
        self.uplinks[uplink].provider.load_nft(text)?;
        Ok(moment)
    }

    fn set_cable(&self, uplink: usize, plugged: bool) -> Result<SystemTime> {
        let entered = self.uplinks[uplink].provider.enter()?;
        let moment = SystemTime::now();
        set_interface(CUSTOMER_INTERFACE, plugged)
            .with_context(|| format!("failed to set interface {CUSTOMER_INTERFACE}"))?;
        drop(entered);
        Ok(moment)
    }
}

/// Sets an interface up or down (netdevice(7)): one system call, so that the moment is exact.
pub(super) fn set_interface(name: &str, up: bool) -> Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    // SAFETY: `ifreq` is plain data for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    ensure!(name.len() < request.ifr_name.len(), "the name is too long");
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    interface_request(&socket, libc::SIOCGIFFLAGS, &mut request)?;
    let bit = libc::c_short::try_from(libc::IFF_UP)?;
    // SAFETY: the kernel filled in the flags, the union's member of these two requests.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = if up { flags | bit } else { flags & !bit };
    Ok(interface_request(&socket, libc::SIOCSIFFLAGS, &mut request)?)
}

fn interface_request(
    socket: &UdpSocket,
    request: libc::Ioctl,
    data: &mut libc::ifreq,
) -> io::Result<()> {
    // SAFETY: both requests in use read and write one `ifreq`, which `data` is.
    let status = unsafe { libc::ioctl(socket.as_raw_fd(), request, data) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
