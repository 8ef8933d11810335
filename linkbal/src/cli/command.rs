//! The verbs, with their arguments and help.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, ValueEnum, value_parser};

use super::{
    clients, drill, events, exit::Exit, explain, flows, health, help, history, import, init, reload,
};
use crate::config::DEFAULT_PATH as DEFAULT_CONFIG;

/// Spreads the flows of a network over several internet uplinks.
#[derive(Debug, Parser)]
#[command(name = "linkbal", version, after_help = Exit::help())]
pub struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the gateway in the foreground, in the current network namespace
    #[command(after_help = help::RUN)]
    Run {
        /// Configuration file
        #[arg(long, short, default_value = DEFAULT_CONFIG)]
        config: PathBuf,
        /// Treatment of the datapath at the end [default: keep after SIGTERM, teardown after
        /// Ctrl-C]
        #[arg(long)]
        on_exit: Option<OnExitArg>,
        /// Write everything that decisions rest on to this file, for `linkbal replay`; it grows
        /// without a limit
        #[arg(long, value_name = "FILE")]
        record: Option<PathBuf>,
        /// Fail if the configuration cannot be used, rather than run with the last good one
        #[arg(long)]
        strict: bool,
    },
    /// Check a configuration and change nothing
    #[command(after_help = help::CHECK)]
    Check {
        /// Configuration file [default: that of the daemon that runs, or
        /// /etc/linkbal/linkbal.toml]
        #[arg(long, short)]
        config: Option<PathBuf>,
        /// Explain a key, like uplink.weight, or a section, instead of checking; without one, list the
        /// sections
        #[arg(long, value_name = "KEY", num_args = 0..=1, default_missing_value = "",
            conflicts_with_all = ["config", "machine"])]
        explain: Option<String>,
        /// Also say what does not fit this machine: interfaces, gateways and networks, and what
        /// others have set up that clashes: exit code 4 if something does not
        #[arg(long)]
        machine: bool,
    },
    /// Show what `run` would change in the kernel, and change nothing: exit code 0 if nothing, 3 if
    /// something, 4 if nothing, but the configuration does not fit this machine, or what others
    /// have set up clashes
    #[command(after_help = help::PLAN)]
    Plan {
        /// Configuration file [default: that of the daemon that runs, or
        /// /etc/linkbal/linkbal.toml]
        #[arg(long, short)]
        config: Option<PathBuf>,
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
    },
    /// Try the running gateway from end to end: what passes by each uplink, the machine, and what is
    /// left of old scripts; each finding comes with the command that mends it. Changes nothing:
    /// exit code 0 if nothing is wrong, 4 if something is
    #[command(after_help = help::DOCTOR)]
    Doctor {
        /// Configuration file [default: that of the daemon that runs, or
        /// /etc/linkbal/linkbal.toml]
        #[arg(long, short)]
        config: Option<PathBuf>,
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
    },
    /// Show the uplinks of the gateway that runs in this network namespace
    #[command(after_help = help::STATUS)]
    Status {
        /// Also show devices, packets and bytes, in lines of more than 80 columns
        #[arg(long, conflicts_with = "json")]
        wide: bool,
        /// Show it again and again, with a pause of so many seconds, until Ctrl-C
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
            value_parser = value_parser!(u64).range(1..=86_400), conflicts_with = "json")]
        watch: Option<u64>,
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
    },
    /// Say whether this gateway can carry packets, for scripts of keepalived and routing daemons: exit
    /// code 0 if so many uplinks are up, or wait on standby for nothing but their virtual addresses
    #[command(after_help = help::HEALTH)]
    Health {
        /// Number of uplinks that must be, from 1 on
        #[arg(long, value_name = "NUMBER", default_value = "1", value_parser = value_parser!(u16).range(1..))]
        uplinks: u16,
        /// Families of which they must be
        #[arg(long, value_enum, default_value = "auto")]
        family: health::Families,
        /// Address of the LAN that moves between two gateways: where it is here, the virtual addresses of the
        /// uplinks must be, too
        #[arg(long, value_name = "ADDRESS")]
        address: Option<IpAddr>,
    },
    /// Show the gateway live on the whole terminal: uplinks, the busiest flows and clients, and events;
    /// keys drain, disable, enable and drill an uplink, and explain a flow. `?` shows the keys
    #[command(after_help = help::TOP)]
    Top,
    /// Show the live flows: their ends, uplink, age, silence and bytes
    #[command(after_help = flows::EXAMPLES)]
    Flows(flows::FlowsArgs),
    /// Show the hosts of the LAN that have live flows, the largest first
    #[command(after_help = clients::EXAMPLES)]
    Clients(clients::ClientsArgs),
    /// Say what becomes of a flow, and why: its rule, session, bucket and uplink, what it would take if
    /// that uplink went down, and what others divert
    #[command(after_help = "Examples:\n  linkbal explain 10.0.0.5 example.com:443\n  \
        linkbal explain 10.0.0.5:40000 198.51.100.7:53 --protocol udp\n  \
        linkbal explain fd77::5 [2001:db8::1]:443 --iface lan0\n  \
        linkbal explain --from-gateway 198.51.100.7:443")]
    Explain(explain::ExplainArgs),
    /// Show the rules in the order in which they are asked, with how many flows took each
    #[command(after_help = help::RULES)]
    Rules {
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
    },
    /// Show what happened to the uplinks: the last 1000 events, also of former runs
    #[command(after_help = help::EVENTS)]
    Events(events::EventsArgs),
    /// Show how the uplinks were in the last hour, day and month, their outages, and how long each was
    /// up in a month
    #[command(after_help = help::HISTORY)]
    History(history::HistoryArgs),
    /// Take an uplink out of use until it is enabled: its flows move to the others
    #[command(after_help = help::DISABLE)]
    Disable {
        /// Name of the uplink
        uplink: String,
    },
    /// Let new flows avoid an uplink until it is enabled: those that it has stay
    #[command(after_help = help::DRAIN)]
    Drain {
        /// Name of the uplink
        uplink: String,
    },
    /// Undo `disable` or `drain`: the uplink is used again once it is known to work
    #[command(after_help = help::ENABLE)]
    Enable {
        /// Name of the uplink
        uplink: String,
        /// Use it with its first good round of probes: without `hold`, `success_count` and the
        /// longer time after flapping
        #[arg(long)]
        now: bool,
    },
    /// Block an uplink for a while, and measure how soon that is found out and what it means to
    /// users: it is like a real outage for them. Ctrl-C ends it
    #[command(after_help = help::DRILL)]
    Drill {
        /// Name of the uplink
        uplink: String,
        /// Longest time that the uplink is blocked; then it is watched until it is up again
        #[arg(long = "for", value_name = "TIME", default_value = "30s", value_parser = drill::time)]
        time: Duration,
        /// Start even if users have no other uplink in the meantime, or not all families are up
        #[arg(long)]
        force: bool,
        /// Print one JSON object on each line for programs
        #[arg(long)]
        json: bool,
    },
    /// Show whom messages are sent to and what became of them; with --test, send one now and print what
    /// each server says
    #[command(after_help = help::NOTIFY)]
    Notify {
        /// Name of the receiver [default: all]
        #[arg(requires = "test")]
        receiver: Option<String>,
        /// Send a message that says it is a test
        #[arg(long)]
        test: bool,
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
    },
    /// Read the configuration again: no flow of an uplink that stays moves, and one that cannot be
    /// used changes nothing
    #[command(after_help = help::RELOAD)]
    Reload {
        /// Go back to the configuration of now unless `linkbal confirm` follows within this time,
        /// like 60s or 5m
        #[arg(long, value_name = "TIME", value_parser = reload::trial)]
        confirm: Option<Duration>,
    },
    /// Keep the configuration of a `reload --confirm`
    #[command(after_help = help::CONFIRM)]
    Confirm,
    /// Bring back the configuration before a `reload --confirm` at once
    #[command(after_help = help::UNDO)]
    Undo,
    /// Play a recording of `linkbal run --record` again, and print the decisions
    #[command(after_help = help::REPLAY)]
    Replay {
        /// The recording
        file: PathBuf,
        /// Print every command in full, also those that come all the time
        #[arg(long)]
        all: bool,
    },
    /// Look at this machine and propose a configuration: uplinks, LAN, gateways, each value with the fact
    /// that it comes from. Asks on a terminal, changes nothing else, and says how what balanced before
    /// goes away
    #[command(after_help = help::INIT)]
    Init(init::InitArgs),
    /// Translate a configuration of another tool, and say what could not be said and why
    #[command(after_help = help::IMPORT)]
    Import(import::ImportArgs),
    /// Print a configuration to begin with: the commented one with all keys, or one for a case
    #[command(after_help = help::EXAMPLE)]
    Example {
        /// Name of the example
        name: Option<String>,
        /// List the examples
        #[arg(long, conflicts_with = "name")]
        list: bool,
    },
    /// Print the JSON schema of the configuration, for editors
    #[command(after_help = help::SCHEMA)]
    Schema,
    /// Print completions for a shell
    #[command(after_help = help::COMPLETIONS)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages to a folder
    #[command(hide = true)]
    Man {
        /// The folder
        folder: PathBuf,
    },
    /// Remove everything of linkbal from the kernel and restore what it changed
    #[command(after_help = help::TEARDOWN)]
    Teardown,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum OnExitArg {
    /// Leave it forwarding with its last state
    Keep,
    /// Remove everything
    Teardown,
}
