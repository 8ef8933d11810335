//! The verbs, with their arguments and help.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, ValueEnum, value_parser};

use super::{
    clients, drill, events, exit::Exit, explain, flows, health, help, history, import, init, reload,
};
use crate::config::DEFAULT_PATH as DEFAULT_CONFIG;

/// Balances the flows of a network over several internet uplinks.
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
        /// Fate of the datapath on exit [default: keep after SIGTERM, teardown after Ctrl-C]
        #[arg(long)]
        on_exit: Option<OnExitArg>,
        /// Record all inputs of decisions in this file, for `linkbal replay`; it grows without
        /// limit
        #[arg(long, value_name = "FILE")]
        record: Option<PathBuf>,
        /// Fail if the configuration is unusable, rather than run with the last good one
        #[arg(long)]
        strict: bool,
    },
    /// Check a configuration, without changing anything
    #[command(after_help = help::CHECK)]
    Check {
        /// Configuration file [default: that of the running daemon, or /etc/linkbal/linkbal.toml]
        #[arg(long, short)]
        config: Option<PathBuf>,
        /// Explain a key, like uplink.weight, or a section, instead of checking; without one, list the
        /// sections
        #[arg(long, value_name = "KEY", num_args = 0..=1, default_missing_value = "",
            conflicts_with_all = ["config", "machine"])]
        explain: Option<String>,
        /// Also check it against this machine: interfaces, gateways, networks, and conflicting
        /// settings of other programs; exit code 4 if something does not fit
        #[arg(long)]
        machine: bool,
    },
    /// Show what `run` would change in the kernel, without changing anything: exit code 0 for no
    /// changes, 3 for changes, 4 for no changes, but a configuration that does not fit this machine
    /// or conflicts with other programs
    #[command(after_help = help::PLAN)]
    Plan {
        /// Configuration file [default: that of the running daemon, or /etc/linkbal/linkbal.toml]
        #[arg(long, short)]
        config: Option<PathBuf>,
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Diagnose the running gateway end to end: what passes each uplink, the machine itself, and
    /// leftovers of old scripts; each finding comes with the command that fixes it. Changes
    /// nothing: exit code 0 if nothing is wrong, 4 if something is
    #[command(after_help = help::DOCTOR)]
    Doctor {
        /// Configuration file [default: that of the running daemon, or /etc/linkbal/linkbal.toml]
        #[arg(long, short)]
        config: Option<PathBuf>,
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Show the uplinks of the gateway that runs in this network namespace
    #[command(after_help = help::STATUS)]
    Status {
        /// Also show devices, packets and bytes, in lines of more than 80 columns
        #[arg(long, conflicts_with = "json")]
        wide: bool,
        /// Refresh every so many seconds, until Ctrl-C
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
            value_parser = value_parser!(u64).range(1..=86_400), conflicts_with = "json")]
        watch: Option<u64>,
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Report whether this gateway can forward traffic, for keepalived and routing daemons: exit
    /// code 0 if enough uplinks are up, or are on standby for want of nothing but their virtual
    /// addresses
    #[command(after_help = help::HEALTH)]
    Health {
        /// Minimum number of such uplinks
        #[arg(long, value_name = "NUMBER", default_value = "1", value_parser = value_parser!(u16).range(1..))]
        uplinks: u16,
        /// Address families that must work
        #[arg(long, value_enum, default_value = "auto")]
        family: health::Families,
        /// Virtual address of the LAN that moves between two gateways: the one that has it must
        /// have the virtual addresses of the uplinks, too
        #[arg(long, value_name = "ADDRESS")]
        address: Option<IpAddr>,
    },
    /// Show the gateway live, full-screen: uplinks, the busiest flows and clients, and events; keys
    /// drain, disable, enable and drill an uplink, and explain a flow. `?` shows the keys
    #[command(after_help = help::TOP)]
    Top,
    /// Show the live flows: endpoints, uplink, age, idle time and bytes
    #[command(after_help = help::FLOWS)]
    Flows(flows::FlowsArgs),
    /// Show the hosts of the LAN that have live flows, the largest first
    #[command(after_help = help::CLIENTS)]
    Clients(clients::ClientsArgs),
    /// Explain which uplink a flow takes, and why: its rule, session and bucket, which one it would
    /// take if that uplink went down, and what other programs divert
    #[command(after_help = help::EXPLAIN)]
    Explain(explain::ExplainArgs),
    /// Show the rules in the order in which they are evaluated, with the number of flows that
    /// matched each
    #[command(after_help = help::RULES)]
    Rules {
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Show what happened to the uplinks: the last 1000 events, including those of earlier runs
    #[command(after_help = help::EVENTS)]
    Events(events::EventsArgs),
    /// Show the quality of the uplinks in the last hour, day and month, their outages, and their
    /// uptime in each month
    #[command(after_help = help::HISTORY)]
    History(history::HistoryArgs),
    /// Take an uplink out of use until it is enabled: its flows move to the others
    #[command(after_help = help::DISABLE)]
    Disable {
        /// Name of the uplink
        uplink: String,
    },
    /// Keep new flows off an uplink until it is enabled: existing flows stay
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
        /// Use it after its first good round of probes, without `hold`, `success_count` and flap
        /// damping
        #[arg(long)]
        now: bool,
    },
    /// Simulate an outage: block an uplink for a while, and measure how soon that is detected and
    /// what users notice. To them it is like a real outage. Ctrl-C ends it
    #[command(after_help = help::DRILL)]
    Drill {
        /// Name of the uplink
        uplink: String,
        /// Maximum time for which the uplink is blocked; then it is watched until it is up again
        #[arg(long = "for", value_name = "TIME", default_value = "30s", value_parser = drill::time)]
        time: Duration,
        /// Start even if users have no other uplink in the meantime, or not all families are up
        #[arg(long)]
        force: bool,
        /// Print one JSON object per line, for programs
        #[arg(long)]
        json: bool,
    },
    /// Show the receivers of messages and how the last deliveries went; with --test, send one now
    /// and print the reply of each server
    #[command(after_help = help::NOTIFY)]
    Notify {
        /// Name of the receiver [default: all]
        #[arg(requires = "test")]
        receiver: Option<String>,
        /// Send a test message
        #[arg(long)]
        test: bool,
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Reload the configuration: no flow moves off an uplink that remains, and an unusable
    /// configuration changes nothing
    #[command(after_help = help::RELOAD)]
    Reload {
        /// Revert to the present configuration unless `linkbal confirm` follows within this time,
        /// like 60s or 5m
        #[arg(long, value_name = "TIME", value_parser = reload::trial)]
        confirm: Option<Duration>,
    },
    /// Keep the configuration of a `reload --confirm`
    #[command(after_help = help::CONFIRM)]
    Confirm,
    /// Revert a `reload --confirm` at once
    #[command(after_help = help::UNDO)]
    Undo,
    /// Replay a recording of `linkbal run --record`, and print the decisions
    #[command(after_help = help::REPLAY)]
    Replay {
        /// The recording
        file: PathBuf,
        /// Print every command in full, including routine ones
        #[arg(long)]
        all: bool,
    },
    /// Inspect this machine and propose a configuration: uplinks, LAN, gateways, each value with
    /// the fact that it comes from. Asks on a terminal, changes nothing else, and shows how to
    /// remove the previous load balancing
    #[command(after_help = help::INIT)]
    Init(init::InitArgs),
    /// Translate the configuration of another tool, and report what could not be translated, and
    /// why
    #[command(after_help = help::IMPORT)]
    Import(import::ImportArgs),
    /// Print a configuration to start from: the commented one with all keys, or an example for one
    /// case
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
    /// Print shell completions
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
    /// Remove everything that linkbal has set up in the kernel, and restore what it changed
    #[command(after_help = help::TEARDOWN)]
    Teardown,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum OnExitArg {
    /// Keep it forwarding in its last state
    Keep,
    /// Remove everything
    Teardown,
}
