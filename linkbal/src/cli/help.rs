//! Examples below the help of each verb.

/// Examples of `linkbal run`.
pub(super) const RUN: &str = "\
Examples:
  linkbal run                              Until Ctrl-C, which removes everything again
  linkbal run --on-exit keep               The datapath keeps forwarding on exit, as for a service
  linkbal run --strict                     Fail rather than use the last good configuration
  ip netns exec gw linkbal run -c gw.toml  In its own network namespace";

/// Examples of `linkbal check`.
pub(super) const CHECK: &str = "\
Examples:
  linkbal check                            The file of the running daemon, or the default one
  linkbal check -c new.toml                Another file, before it is put in place
  linkbal check --machine                  Also against this machine
  linkbal check --explain uplink.weight    What a key means, its range and its default";

/// Examples of `linkbal plan`.
pub(super) const PLAN: &str = "\
Examples:
  linkbal plan                             What a start would change in the kernel
  linkbal plan -c new.toml && echo same    Exit code 0: nothing would change";

/// Examples of `linkbal doctor`.
pub(super) const DOCTOR: &str = "\
Examples:
  linkbal doctor                           What does not pass, and the command that fixes it
  linkbal doctor --json | jq .findings     For programs: exit code 4 if something is wrong";

/// Examples of `linkbal status`.
pub(super) const STATUS: &str = "\
Examples:
  linkbal status
  linkbal status --watch 5                 Again every 5 s, until Ctrl-C
  linkbal status --json | jq '.uplinks[] | {name, state}'
  ip netns exec gw linkbal status          Of the daemon in another network namespace";

/// Examples of `linkbal health`.
pub(super) const HEALTH: &str = "\
Examples:
  linkbal health                           Exit code 0, and why; 1 if no uplink works
  linkbal health --family both             The same, where IPv6 must work, too
  linkbal health --address 192.168.1.1     The same, with a LAN address that keepalived moves

In keepalived.conf, for track_script:
  vrrp_script linkbal {
      script \"/usr/sbin/linkbal health --address 192.168.1.1\"
      interval 1
      timeout 3
      fall 2
      rise 30
      weight -50
  }";

/// Examples of `linkbal top`.
pub(super) const TOP: &str = "\
Examples:
  linkbal top
  ssh -t root@gateway linkbal top          From another machine
  NO_COLOR=1 linkbal top                   Without colours";

/// Examples of `linkbal flows`.
pub(super) const FLOWS: &str = "\
Examples:
  linkbal flows --client 192.168.1.20            the flows of one host
  linkbal flows --uplink isp-a --port 443        the HTTPS connections of an uplink
  linkbal flows --sort bytes --limit 10          the ten largest flows
  linkbal flows --destination 2001:db8::/32 --follow
                                                 what begins and ends there from now on
  linkbal flows --top 10                         the ten clients with the most bytes or flows";

/// Examples of `linkbal clients`.
pub(super) const CLIENTS: &str = "\
Examples:
  linkbal clients                     the 20 clients with the most bytes or flows
  linkbal clients --uplink lte        who uses an uplink now
  linkbal clients --top 5 --resolve   with names by reverse DNS, too";

/// Examples of `linkbal explain`.
pub(super) const EXPLAIN: &str = "\
Examples:
  linkbal explain 10.0.0.5 example.com:443
  linkbal explain 10.0.0.5:40000 198.51.100.7:53 --protocol udp
  linkbal explain fd77::5 [2001:db8::1]:443 --iface lan0
  linkbal explain --from-gateway 198.51.100.7:443";

/// Examples of `linkbal rules`.
pub(super) const RULES: &str = "\
Examples:
  linkbal rules
  linkbal rules --json | jq '.[0]'";

/// Examples of `linkbal events`.
pub(super) const EVENTS: &str = "\
Examples:
  linkbal events --since 1h                The last hour
  linkbal events --since yesterday         Since midnight of that day, local time
  linkbal events --uplink fiber --follow   One uplink, and its new events
  linkbal events --json | jq 'select(.severity == \"warning\")'";

/// Examples of `linkbal history`.
pub(super) const HISTORY: &str = "\
Examples:
  linkbal history                          The last hour, day and month, and the outages
  linkbal history --uplink fiber --since 3h
  linkbal history --report                 For the provider: uptime and outages of each month
  linkbal history --csv outages > outages.csv
  linkbal history --json | jq 'select(.point.ipv4.lost > 0) | .point'";

/// Examples of `linkbal disable`.
pub(super) const DISABLE: &str = "\
Examples:
  linkbal disable cable                    Its flows move to the others at once
  linkbal drain cable && sleep 1h && linkbal disable cable";

/// Examples of `linkbal drain`.
pub(super) const DRAIN: &str = "\
Examples:
  linkbal drain cable                      New flows avoid it, existing ones stay";

/// Examples of `linkbal enable`.
pub(super) const ENABLE: &str = "\
Examples:
  linkbal enable cable                     Used again once its probes succeed for the hold time
  linkbal enable --now cable               Used again after its first good round";

/// Examples of `linkbal drill`.
pub(super) const DRILL: &str = "\
Examples:
  linkbal drill fiber                      For 30 s, like a real outage for users
  linkbal drill fiber --for 2m --json";

/// Examples of `linkbal notify`.
pub(super) const NOTIFY: &str = "\
Examples:
  linkbal notify                           How deliveries went so far
  linkbal notify --test admin              Whether messages to one receiver arrive";

/// Examples of `linkbal reload`.
pub(super) const RELOAD: &str = "\
Examples:
  linkbal check && linkbal reload
  linkbal reload --confirm 60s             And `linkbal confirm`, if you still reach the machine";

/// Examples of `linkbal confirm`.
pub(super) const CONFIRM: &str = "\
Examples:
  linkbal reload --confirm 60s && ping -c 3 192.0.2.1 && linkbal confirm";

/// Examples of `linkbal undo`.
pub(super) const UNDO: &str = "\
Examples:
  linkbal reload --confirm 5m              Look around; if it is no good:
  linkbal undo";

/// Examples of `linkbal replay`.
pub(super) const REPLAY: &str = "\
Examples:
  linkbal run --record outage.jsonl
  linkbal replay outage.jsonl              On any machine, without root";

/// Examples of `linkbal example`.
pub(super) const EXAMPLE: &str = "\
Examples:
  linkbal example > /etc/linkbal/linkbal.toml
  linkbal example two-lines-30-70
  linkbal example --list                   The names of all examples";

/// Examples of `linkbal init`.
pub(super) const INIT: &str = "\
Examples:
  linkbal init                             Asks on a terminal, and prints the configuration
  linkbal init --yes                       Asks nothing, and writes /etc/linkbal/linkbal.toml
  linkbal init < /dev/null > proposal.toml
  linkbal init -o new.toml && linkbal check --machine -c new.toml";

/// Examples of `linkbal import`.
pub(super) const IMPORT: &str = "\
Examples:
  linkbal import mwan3 /etc/config/mwan3 --network /etc/config/network -o linkbal.toml
  linkbal import script balance.sh         To standard output; what is left out, to standard error";

/// Examples of `linkbal schema`.
pub(super) const SCHEMA: &str = "\
Examples:
  linkbal schema > linkbal.schema.json     And `#:schema ./linkbal.schema.json` in the configuration";

/// Examples of `linkbal completions`.
pub(super) const COMPLETIONS: &str = "\
Examples:
  linkbal completions bash > /etc/bash_completion.d/linkbal
  linkbal completions fish > ~/.config/fish/completions/linkbal.fish";

/// Examples of `linkbal teardown`.
pub(super) const TEARDOWN: &str = "\
Examples:
  systemctl stop linkbal && linkbal teardown";
