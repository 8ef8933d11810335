//! All keys of the configuration. The doc comment of a key is its line in the documentation.

use std::time::Duration;

use super::{
    parse::{
        key::{Auto, Flag, Keys, Number, Other, Time, Unset, keys},
        shape::Shape::{self, *},
    },
    words::EVENT_WORDS,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A protocol by name or number.
const A_PROTOCOL: Shape = Any(&[Text, Integer(0, 255)]);
/// A prefix, or a file of some.
const PREFIXES: Shape = Any(&[Text, Table("rule.match.source")]);
/// A port, or a range of ports.
const PORTS: Shape = Any(&[Integer(1, 65_535), Like("^ *[0-9]+ *- *[0-9]+ *$")]);
/// A MAC address.
const MAC_ADDRESS: Shape = Like("^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$");
/// A time in milliseconds, or a text with a unit.
const MILLISECONDS: Shape = Any(&[Integer(0, u32::MAX), Text]);

keys! {
    /// The sections of the file.
    root = "";
    /// the LAN
    LAN: Other = "lan", Other("a section", Table("lan")), Unset::Words("none");
    /// traffic of the gateway itself
    LOCAL: Other = "local", Other("a section", Table("local")), Unset::Words("none");
    /// bonds, each a section `[bond.NAME]`
    BOND: Other = "bond", Other("sections", Named(&Table("bond.NAME"))), Unset::Words("none");
    /// uplinks, each a section `[uplink.NAME]`
    UPLINK: Other = "uplink", Other("sections", Named(&Table("uplink.NAME"))), Unset::Required;
    /// exemptions from address translation
    NAT: Other = "nat", Other("a section", Table("nat")), Unset::Words("none");
    /// connections from outside
    FIREWALL: Other = "firewall", Other("a section", Table("firewall")), Unset::Words("none");
    /// the way of established flows
    ACCELERATE: Other = "accelerate", Other("a section", Table("accelerate")), Unset::Words("none");
    /// how flows are shared
    BALANCE: Other = "balance", Other("a section", Table("balance")), Unset::Words("none");
    /// health probes of all uplinks
    PROBE: Other = "probe", Other("a section", Table("probe")), Unset::Words("none");
    /// classes of sticky flows, each `[[sticky]]`
    STICKY: Other = "sticky", Other("sections", List(&Table("sticky"))), Unset::Words("two classes");
    /// rules, each `[[rule]]`
    RULE: Other = "rule", Other("sections", List(&Table("rule"))), Unset::Words("none");
    /// trusted DNS servers
    DNS: Other = "dns", Other("a section", Table("dns")), Unset::Words("none");
    /// the API for other programs and machines
    API: Other = "api", Other("a section", Table("api")), Unset::Words("none");
    /// programs of the user
    HOOKS: Other = "hooks", Other("a section", Table("hooks")), Unset::Words("none");
    /// receivers of messages, each a section `[notify.NAME]`
    NOTIFY: Other = "notify", Other("sections", Named(&Table("notify.NAME"))), Unset::Words("none");
    /// numbers in the kernel
    KERNEL: Other = "kernel", Other("a section", Table("kernel")), Unset::Words("none");
}

keys! {
    /// Keys of `[lan]`.
    lan = "lan";
    /// where the LAN's packets come in: see [LAN interfaces](#lan-interfaces)
    INTERFACES: Other = "interfaces", Other("list of names and patterns", List(&Text)), Unset::Value("[]");
}

keys! {
    /// Keys of `[local]`.
    local = "local";
    /// whether connections of programs on the gateway are balanced, too
    BALANCE: Flag = "balance", Flag, Unset::Value("true");
}

keys! {
    /// Keys of `[balance]`.
    balance = "balance";
    /// whether weights follow the free part of `capacity`
    ADAPTIVE: Flag = "adaptive", Flag, Unset::Value("false");
}

keys! {
    /// Keys of `[uplink.NAME]`.
    uplink = "uplink.NAME";
    /// the interface to the provider
    INTERFACE: Other = "interface", Other("name", Text), Unset::Required;
    /// share of new flows within its tier; 0: only when all others are down
    WEIGHT: Number = "weight", Number(0, 10_000), Unset::Value("1");
    /// a higher tier is used only while all lower ones are down or full
    TIER: Number = "tier", Number(1, 16), Unset::Value("1");
    /// what the line carries
    CAPACITY: Other = "capacity", Other("rate like `\"100mbit\"`, 1kbit to 1000gbit; or table", Any(&[Text, Table("uplink.NAME.capacity")])), Unset::Words("none");
    /// the share of `capacity` from which on new flows use others
    SPILLOVER: Other = "spillover", Other("0.1 to 1.0", Decimal(0.1, 1.0)), Unset::Words("none");
    /// the provider's router
    GATEWAY: Other = "gateway", Other("`\"auto\"`, address or table", Any(&[Text, Table("uplink.NAME.gateway")])), Unset::Value("\"auto\"");
    /// of a [tunnel](#tunnels): the uplinks that carry its outer packets
    OVER: Other = "over", Other("name or list", OneOrMore(&Text)), Unset::Words("all but tunnels");
    /// of a tunnel: the address of its other end
    ENDPOINT: Other = "endpoint", Other("address or list", OneOrMore(&Text)), Unset::Words("the kernel's");
    /// whether what leaves by this uplink is [translated](#nat)
    NAT: Other = "nat", Other("`\"masquerade\"` or `\"off\"`", OneOf(&["masquerade", "off"])), Unset::Value("\"masquerade\"");
    /// see [IPv6](#ipv6)
    IPV6: Other = "ipv6", Other("`\"masquerade\"`, `\"prefix\"`, `\"routed\"` or `\"off\"`", OneOf(&["masquerade", "prefix", "routed", "off"])), Unset::Value("\"masquerade\"");
    /// IPv4 and IPv6 prefixes that the provider routes here
    PREFIX: Other = "prefix", Other("prefix or list, at most 16", OneOrMore(&Text)), Unset::Words("none");
    /// an inner prefix, translated to the first of `prefix` of its length
    NPT: Other = "npt", Other("IPv6 prefix", Text), Unset::Words("none");
    /// move between [two gateways](high-availability.md)
    VIRTUAL_ADDRESSES: Other = "virtual_addresses", Other("list of addresses", List(&Text)), Unset::Value("[]");
    /// its flows when it goes down
    ON_DOWN: Other = "on_down", Other("`\"reset\"`, `\"move\"` or `\"keep\"`", OneOf(&["reset", "move", "keep"])), Unset::Value("\"reset\"");
    /// its flows when a better tier comes up
    ON_UP: Other = "on_up", Other("`\"drain\"` or `\"reclaim\"`", OneOf(&["drain", "reclaim"])), Unset::Value("\"drain\"");
    /// for how long the better tier must have been usable
    RECLAIM_AFTER: Time = "reclaim_after", Time(Duration::ZERO, DAY), Unset::Value("\"30s\"");
    /// the TCP MSS is at most what fits this, both ways: see [MTU](#mtu); from 1280 with IPv6
    MTU: Number = "mtu", Number(576, 65_535), Unset::Words("none");
    /// whether its flows may take [shortcuts](operations.md#shortcuts)
    ACCELERATE: Flag = "accelerate", Flag, Unset::Value("true");
    /// DNS servers that answer this provider's customers only
    RESOLVERS: Other = "resolvers", Other("list of addresses", List(&Text)), Unset::Value("[]");
    /// any key of `[probe]`, for this uplink
    PROBE: Other = "probe", Other("table", Table("probe")), Unset::Words("as `[probe]`");
}

keys! {
    /// Keys of the table of a capacity.
    capacity = "uplink.NAME.capacity";
    /// rate from the provider
    DOWN: Other = "down", Other("rate", Text), Unset::Required;
    /// rate to the provider
    UP: Other = "up", Other("rate", Text), Unset::Required;
}

keys! {
    /// Keys of the table of gateways.
    gateway = "uplink.NAME.gateway";
    /// the router for IPv4
    IPV4: Other = "ipv4", Other("`\"auto\"` or address", Text), Unset::Value("\"auto\"");
    /// the router for IPv6
    IPV6: Other = "ipv6", Other("`\"auto\"` or address", Text), Unset::Value("\"auto\"");
}

keys! {
    /// Keys of `[probe]`.
    probe = "probe";
    /// hosts to ask, see [Probe targets](health-checks.md#probe-targets)
    TARGETS: Other = "targets", Other("list of addresses, `\"gateway\"`, `tcp://`, `dns://`, `ntp://`, `http(s)://`", List(&Any(&[Text, Table("probe.targets")]))), Unset::Words("six public resolvers");
    /// time between two rounds
    INTERVAL: Time = "interval", Time(Duration::from_millis(20), Duration::from_secs(3600)), Unset::Value("\"200ms\"");
    /// when an answer counts as lost; auto: from each target's latency
    TIMEOUT: Auto<Time> = "timeout", Auto(Time(Duration::from_millis(10), Duration::from_secs(60))), Unset::Value("\"auto\"");
    /// bad rounds in a row until the uplink is down
    FAILURE_COUNT: Number = "failure_count", Number(1, 1000), Unset::Value("3");
    /// good rounds in a row until it may come back
    SUCCESS_COUNT: Number = "success_count", Number(1, 1000), Unset::Value("5");
    /// targets of a family that must answer for a good round
    QUORUM: Number = "quorum", Number(1, 1000), Unset::Value("1");
    /// how long a down uplink must have answered well before it comes back, besides `success_count`
    HOLD: Time = "hold", Time(Duration::ZERO, DAY), Unset::Value("\"5s\"");
    /// the most that [flap damping](health-checks.md#flap-damping) makes of `hold`
    HOLD_MAX: Time = "hold_max", Time(Duration::ZERO, DAY), Unset::Value("\"10m\"");
    /// limits of quality, any of them
    LIMITS: Other = "limits", Other("table", Table("probe.limits")), Unset::Words("none");
    /// whether new flows leave out an uplink beyond its limits
    ON_DEGRADED: Other = "on_degraded", Other("`\"avoid\"` or `\"ignore\"`", OneOf(&["avoid", "ignore"])), Unset::Value("\"avoid\"");
}

keys! {
    /// Keys of the limits of quality.
    limits = "probe.limits";
    /// share of lost probes
    LOSS: Other = "loss", Other("`\"0.1%\"` to `\"100%\"`", Like("%")), Unset::Words("none");
    /// smoothed latency
    LATENCY: Time = "latency", Time(Duration::from_millis(1), Duration::from_secs(60)), Unset::Words("none");
    /// jitter
    JITTER: Time = "jitter", Time(Duration::from_millis(1), Duration::from_secs(60)), Unset::Words("none");
}

keys! {
    /// Keys of the table of a target by HTTP.
    target = "probe.targets";
    /// the page
    URL: Other = "url", Other("`http://` or `https://`", Like("^https?://")), Unset::Required;
    /// the expected status
    STATUS: Number = "status", Number(100, 599), Unset::Words("200 to 299");
    /// a text that the page must contain
    BODY: Other = "body", Other("text", Text), Unset::Words("none");
}

keys! {
    /// Keys of `[[sticky]]`.
    sticky = "sticky";
    /// destination ports, TCP and UDP, whose flows stick
    PORTS: Other = "ports", Other("list of 1 to 65535", List(&Integer(1, 65_535))), Unset::Required;
    /// flows that share a session; `"src"`: one uplink for all destinations
    BY: Other = "by", Other("`\"src+dst\"` or `\"src\"`", OneOf(&["src+dst", "src"])), Unset::Value("\"src+dst\"");
    /// a session ends after this time without a packet
    IDLE: Other = "idle", Other("1s to 1d, whole seconds", Text), Unset::Value("\"10m\"");
    /// protocols whose flows join a session, and begin none
    RELATED: Other = "related", Other("list of protocols", List(&A_PROTOCOL)), Unset::Value("[]");
}

keys! {
    /// Keys of `[[rule]]`.
    rule = "rule";
    /// which flows: see [Rules](#rules)
    MATCH: Other = "match", Other("table", Table("rule.match")), Unset::Words("everything");
    /// `"fiber"`, `["cable", "fiber"]`, or `{ fiber = 30, cable = 70 }`
    USE: Other = "use", Other("name, list or table of 1 to 10000", Any(&[Text, List(&Text), Named(&Integer(1, 10_000))])), Unset::Words("all uplinks");
    /// when none of these is usable
    OTHERWISE: Other = "otherwise", Other("`\"balance\"`, `\"drop\"` or `\"reject\"`", OneOf(&["balance", "drop", "reject"])), Unset::Value("\"balance\"");
    /// sessions of its own
    STICKY: Other = "sticky", Other("table", Table("rule.sticky")), Unset::Words("as `[[sticky]]`");
}

keys! {
    /// Keys of the conditions of a rule.
    matches = "rule.match";
    /// source addresses
    SOURCE: Other = "source", Other("prefix, file or list", OneOrMore(&PREFIXES)), Unset::Words("any");
    /// destination addresses
    DESTINATION: Other = "destination", Other("prefix, file or list", OneOrMore(&PREFIXES)), Unset::Words("any");
    /// see [Rules by domain](#rules-by-domain)
    DOMAIN: Other = "domain", Other("name or list", OneOrMore(&Text)), Unset::Words("any");
    /// by name or number
    PROTOCOL: Other = "protocol", Other("protocol or list", OneOrMore(&A_PROTOCOL)), Unset::Words("any");
    /// source ports
    SPORT: Other = "sport", Other("port, range or list", OneOrMore(&PORTS)), Unset::Words("any");
    /// destination ports
    DPORT: Other = "dport", Other("port, range or list", OneOrMore(&PORTS)), Unset::Words("any");
    /// by name or number
    DSCP: Other = "dscp", Other("0 to 63, or list", OneOrMore(&Any(&[Text, Integer(0, 63)]))), Unset::Words("any");
    /// interfaces of the LAN
    INTERFACE: Other = "interface", Other("name, pattern or list", OneOrMore(&Text)), Unset::Words("any");
    /// VLANs
    VLAN: Other = "vlan", Other("1 to 4094, or list", OneOrMore(&Integer(1, 4094))), Unset::Words("any");
    /// source MAC addresses
    MAC: Other = "mac", Other("address or list", OneOrMore(&MAC_ADDRESS)), Unset::Words("any");
}

keys! {
    /// Keys of a table that names a file of prefixes.
    file = "rule.match.source";
    /// a file with one prefix on each line
    FILE: Other = "file", Other("name", Text), Unset::Required;
}

keys! {
    /// Keys of the stickiness of a rule.
    rule_sticky = "rule.sticky";
    /// as of `[[sticky]]`
    BY: Other = "by", Other("`\"src+dst\"` or `\"src\"`", OneOf(&["src+dst", "src"])), Unset::Value("\"src\"");
    /// as of `[[sticky]]`
    IDLE: Other = "idle", Other("1s to 1d, whole seconds", Text), Unset::Value("\"10m\"");
    /// whether neighbours share a session
    GROUP: Flag = "group", Flag, Unset::Value("false");
}

keys! {
    /// Keys of `[nat]`.
    nat = "nat";
    /// what is not translated: see [NAT](#nat)
    EXEMPT: Other = "exempt", Other("list of tables, at most 64", List(&Table("nat.exempt"))), Unset::Value("[]");
}

keys! {
    /// Keys of an exemption.
    exempt = "nat.exempt";
    /// source addresses
    SOURCE: Other = "source", Other("prefix or list", OneOrMore(&Text)), Unset::Words("any");
    /// destination addresses
    DESTINATION: Other = "destination", Other("prefix or list", OneOrMore(&Text)), Unset::Words("any");
    /// uplinks by which it leaves
    UPLINK: Other = "uplink", Other("name or list", OneOrMore(&Text)), Unset::Words("any");
}

keys! {
    /// Keys of `[firewall]`.
    firewall = "firewall";
    /// what connections from outside reach behind this machine
    INBOUND: Other = "inbound", Other("`\"auto\"`, `\"established\"` or `\"open\"`", OneOf(&["auto", "established", "open"])), Unset::Value("\"auto\"");
    /// whether what comes in by an uplink may leave by an uplink
    TRANSIT: Flag = "transit", Flag, Unset::Value("false");
}

keys! {
    /// Keys of `[accelerate]`.
    accelerate = "accelerate";
    /// what forwards established flows, if not the kernel as usual: see [Shortcuts](operations.md#shortcuts)
    MODE: Other = "mode", Other("`\"off\"`, `\"flowtable\"`, `\"ebpf\"` or `\"xdp\"`", OneOf(&["off", "flowtable", "ebpf", "xdp"])), Unset::Value("\"off\"");
    /// interfaces of the LAN whose packets take no shortcuts
    EXCEPT: Other = "except", Other("list of names and patterns", List(&Text)), Unset::Value("[]");
}

keys! {
    /// Keys of `[dns]`.
    dns = "dns";
    /// servers that are trusted beside the gateway's own
    RESOLVERS: Other = "resolvers", Other("list of addresses", List(&Text)), Unset::Words("`/etc/resolv.conf`");
}

keys! {
    /// Keys of `[api]`.
    api = "api";
    /// address and port at which the API is served beside the socket: see [The API by TCP](events-and-api.md#the-api-by-tcp)
    LISTEN: Other = "listen", Other("address with a port", Text), Unset::Words("none");
    /// a file with the token of those who may change something
    TOKEN_FILE: Other = "token_file", Other("path", Text), Unset::Words("none: read only");
    /// names by which clients may call this machine, beside its addresses and `localhost`
    HOSTS: Other = "hosts", Other("list of host names", List(&Text)), Unset::Value("[]");
}

keys! {
    /// Keys of `[hooks]`.
    hooks = "hooks";
    /// a program and its arguments, run for each [event](events-and-api.md#hooks)
    ON_CHANGE: Other = "on_change", Other("list of texts", List(&Text)), Unset::Words("none");
}

keys! {
    /// Keys of `[notify.NAME]`.
    notify = "notify.NAME";
    /// of a webhook: the address that each message is sent to; `{token}` in it is the secret
    URL: Other = "url", Other("`http://` or `https://`", Like("^https?://")), Unset::Words("none");
    /// of a webhook: header fields of the request, with placeholders
    HEADERS: Other = "headers", Other("table of texts", Named(&Text)), Unset::Words("none");
    /// of a webhook: a file with the secret; sent as `Authorization: Bearer` unless `{token}` stands elsewhere
    TOKEN_FILE: Other = "token_file", Other("path from the root", Like("^/")), Unset::Words("none");
    /// of a webhook: the body, JSON or another text, with [placeholders](events-and-api.md#webhooks)
    TEMPLATE: Other = "template", Other("text", Text), Unset::Words("JSON with all placeholders");
    /// of a mail: the server that takes it
    SERVER: Other = "server", Other("`smtps://` or `smtp://`", Like("^smtps?://")), Unset::Words("none");
    /// of a mail: whether the connection to the server must be encrypted
    TLS: Other = "tls", Other("`\"required\"` or `\"off\"`", OneOf(&["required", "off"])), Unset::Words("`\"required\"`");
    /// of a mail: the name that the server knows this machine by
    USER: Other = "user", Other("text", Text), Unset::Words("none");
    /// of a mail: a file with the password of `user`
    PASSWORD_FILE: Other = "password_file", Other("path from the root", Like("^/")), Unset::Words("none");
    /// of a mail: the sender
    FROM: Other = "from", Other("mail address", Text), Unset::Words("none");
    /// of a mail: the recipients
    TO: Other = "to", Other("mail address or list", OneOrMore(&Text)), Unset::Words("none");
    /// what it is told of: kinds of [events](events-and-api.md#events), `"warning"` or `"all"`
    EVENTS: Other = "events", Other("list of kinds", List(&OneOf(&EVENT_WORDS))), Unset::Value("[\"uplink\"]");
    /// for how long news are gathered for one message
    GATHER: Time = "gather", Time(Duration::ZERO, Duration::from_secs(3600)), Unset::Value("\"10s\"");
    /// messages within an hour; what is beyond comes later, in one
    LIMIT: Number = "limit", Number(1, 1000), Unset::Value("20");
}

keys! {
    /// Keys of `[bond.NAME]`.
    bond = "bond.NAME";
    /// how packets are spread: see [Bonding](#bonding)
    MODE: Other = "mode", Other("the kernel's name", OneOf(&["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"])), Unset::Required;
    /// network cards that act as one
    MEMBERS: Other = "members", Other("list of names", List(&Text)), Unset::Required;
    /// time between two checks of the members' carriers
    MIIMON: Other = "miimon", Other("milliseconds, or `\"10ms\"` to `\"1m\"`", MILLISECONDS), Unset::Words("100");
    /// in place of `miimon`: time between ARP requests
    ARP_INTERVAL: Other = "arp_interval", Other("milliseconds, or `\"10ms\"` to `\"1m\"`", MILLISECONDS), Unset::Words("none");
    /// hosts to ask
    ARP_IP_TARGETS: Other = "arp_ip_targets", Other("IPv4 address or list, at most 16", OneOrMore(&Text)), Unset::Words("none");
    /// whose answers must be genuine
    ARP_VALIDATE: Other = "arp_validate", Other("the kernel's name", OneOf(&["none", "active", "backup", "all", "filter", "filter_active", "filter_backup"])), Unset::Words("`\"none\"`");
    /// the preferred member, in the modes that have it
    PRIMARY: Other = "primary", Other("name of a member", Text), Unset::Words("none");
    /// in the modes that have it
    LACP_RATE: Other = "lacp_rate", Other("`\"slow\"` or `\"fast\"`", OneOf(&["slow", "fast"])), Unset::Words("`\"slow\"`");
    /// in the modes that have it
    XMIT_HASH_POLICY: Other = "xmit_hash_policy", Other("the kernel's name", OneOf(&["layer2", "layer2+3", "layer3+4", "encap2+3", "encap3+4", "vlan+srcmac"])), Unset::Words("`\"layer2\"`");
    /// of the bond and its members
    MAC: Other = "mac", Other("MAC address", MAC_ADDRESS), Unset::Words("as it is");
    /// of the bond and its members
    MTU: Number = "mtu", Number(68, 65_535), Unset::Words("as it is");
    /// of the bond and its members
    PROMISC: Flag = "promisc", Flag, Unset::Value("false");
    /// its addresses, like `"192.0.2.2/30"`
    ADDRESSES: Other = "addresses", Other("list of addresses with prefix length", List(&Text)), Unset::Value("[]");
}

keys! {
    /// Keys of `[kernel]`.
    kernel = "kernel";
    /// linkbal's bits of the fwmark; all others are kept
    FWMARK_MASK: Other = "fwmark_mask", Other("one run of at least 7 bits", Integer(0, u32::MAX)), Unset::Value("0x7f000000");
    /// this table and the 18 after it; for tunnels those from 32 to 47 after it
    TABLE_BASE: Other = "table_base", Other("1 to 205, or from 256", Integer(1, u32::MAX)), Unset::Value("2600");
    /// this priority of ip rules and the 199 after it
    RULE_PRIORITY: Number = "rule_priority", Number(1, 32_000), Unset::Value("26000");
    /// flows remembered at a time
    FLOW_TABLE_SIZE: Other = "flow_table_size", Other("`\"auto\"`, or 1024 to 16777216", Any(&[OneOf(&["auto"]), Integer(1024, 16_777_216)])), Unset::Value("\"auto\"");
    /// the seed of the hash, 32 hexadecimal digits, that two gateways share
    HASH_SEED_FILE: Other = "hash_seed_file", Other("path from the root", Like("^/")), Unset::Words("none");
}

/// All sections and inline tables.
pub(super) static ALL: [&Keys; 25] = [
    &root::KEYS,
    &lan::KEYS,
    &local::KEYS,
    &balance::KEYS,
    &uplink::KEYS,
    &capacity::KEYS,
    &gateway::KEYS,
    &probe::KEYS,
    &limits::KEYS,
    &target::KEYS,
    &sticky::KEYS,
    &rule::KEYS,
    &matches::KEYS,
    &file::KEYS,
    &rule_sticky::KEYS,
    &nat::KEYS,
    &exempt::KEYS,
    &firewall::KEYS,
    &accelerate::KEYS,
    &dns::KEYS,
    &api::KEYS,
    &hooks::KEYS,
    &notify::KEYS,
    &bond::KEYS,
    &kernel::KEYS,
];
