//! The command line.

// What comes from outside must not stop the daemon.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod drill;
mod events;
mod explain;
mod import;
mod log;
mod plan;
mod reload;
mod replay;
mod rules;
mod status;

use std::{
    io::Write as _,
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand, ValueEnum};
use hyper::Method;

use crate::{
    api::{self, admin::AdminOutcome, client},
    config::{Config, ConfigError, Parsed, Sources},
    daemon::{self, Configured, OnExit, record::Recorder},
    engine::admin::AdminState,
    sys::host::instance::{self, Instance},
};

/// Default path of the configuration.
const DEFAULT_CONFIG: &str = "/etc/linkbal/linkbal.toml";

/// Exit code for a configuration or command line that cannot work.
const EXIT_USAGE: u8 = 2;

/// Spreads the flows of a network over several internet uplinks.
#[derive(Debug, Parser)]
#[command(name = "linkbal", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway in the foreground, in the current network namespace
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
    },
    /// Check a configuration and change nothing
    Check {
        /// Configuration file
        #[arg(long, short, default_value = DEFAULT_CONFIG)]
        config: PathBuf,
        /// Also say what others have set up on this machine that clashes with it: exit code 4 if
        /// something does
        #[arg(long)]
        machine: bool,
    },
    /// Show what `run` would change in the kernel, and change nothing: exit code 0 if nothing, 3 if
    /// something, 4 if nothing, but what others have set up clashes
    Plan {
        /// Configuration file
        #[arg(long, short, default_value = DEFAULT_CONFIG)]
        config: PathBuf,
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
    },
    /// Show the uplinks of the gateway that runs in this network namespace
    Status {
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
    },
    /// Say what becomes of a flow, and why: its rule, session, bucket and uplink, what it would take if
    /// that uplink went down, and what others divert
    #[command(after_help = "Examples:\n  linkbal explain 10.0.0.5 example.com:443\n  \
        linkbal explain 10.0.0.5:40000 198.51.100.7:53 --protocol udp\n  \
        linkbal explain fd77::5 [2001:db8::1]:443 --iface lan0\n  \
        linkbal explain --from-gateway 198.51.100.7:443")]
    Explain(explain::ExplainArgs),
    /// Show the rules in the order in which they are asked, with how many flows took each
    Rules {
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
    },
    /// Show what happened to the uplinks: the last 1000 events since the daemon started
    Events {
        /// Go on with what happens next, until Ctrl-C
        #[arg(long, short)]
        follow: bool,
        /// Print one JSON object on each line for programs
        #[arg(long)]
        json: bool,
    },
    /// Take an uplink out of use until it is enabled: its flows move to the others
    Disable {
        /// Name of the uplink
        uplink: String,
    },
    /// Let new flows avoid an uplink until it is enabled: those that it has stay
    Drain {
        /// Name of the uplink
        uplink: String,
    },
    /// Undo `disable` or `drain`: the uplink is used again once it is known to work
    Enable {
        /// Name of the uplink
        uplink: String,
    },
    /// Block an uplink for a while, and measure how soon that is found out and what it means to
    /// users: it is like a real outage for them. Ctrl-C ends it
    Drill {
        /// Name of the uplink
        uplink: String,
        /// Time limit, after which the drill ends in any case
        #[arg(long = "for", value_name = "TIME", default_value = "30s", value_parser = drill::time)]
        time: Duration,
        /// Start even if users have no other uplink in the meantime
        #[arg(long)]
        force: bool,
        /// Print one JSON object on each line for programs
        #[arg(long)]
        json: bool,
    },
    /// Read the configuration again: no flow of an uplink that stays moves, and one that cannot be
    /// used changes nothing
    Reload {
        /// Go back to the configuration of now unless `linkbal confirm` follows within this time,
        /// like 60s or 5m
        #[arg(long, value_name = "TIME", value_parser = reload::trial)]
        confirm: Option<Duration>,
    },
    /// Keep the configuration of a `reload --confirm`
    Confirm,
    /// Play a recording of `linkbal run --record` again, and print the decisions
    Replay {
        /// The recording
        file: PathBuf,
        /// Print every command in full, also those that come all the time
        #[arg(long)]
        all: bool,
    },
    /// Translate a configuration of another tool, and say what could not be said and why
    Import(import::ImportArgs),
    /// Remove everything of linkbal from the kernel and restore what it changed
    Teardown,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnExitArg {
    /// Leave it forwarding with its last state
    Keep,
    /// Remove everything
    Teardown,
}

/// Runs a command; returns the exit code: 0 done, 1 failed, 2 unusable configuration, and of `plan`
/// 3 if there are differences; of `check --machine` and `plan` 4 if something of others clashes.
pub fn run(cli: Cli) -> ExitCode {
    match execute(cli.command) {
        Ok(code) => code,
        Err(error) if error.is::<ConfigError>() => {
            // It renders itself, over several lines.
            eprintln!("{error}");
            ExitCode::from(EXIT_USAGE)
        }
        Err(error) => {
            eprintln!("linkbal: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> Result<ExitCode> {
    let done = match command {
        Command::Run { config, on_exit, record } => run_daemon(config, on_exit, record),
        Command::Plan { config, json } => return plan(&config, json),
        Command::Check { config, machine } => return check(&config, machine),
        Command::Status { json } => show_status(json),
        Command::Explain(args) => explain::explain(&args),
        Command::Rules { json } => show_rules(json),
        Command::Events { follow, json } => {
            runtime()?.block_on(events::print(&instance::socket()?, follow, json))
        }
        Command::Disable { uplink } => set_admin(&uplink, AdminState::Disabled),
        Command::Drain { uplink } => set_admin(&uplink, AdminState::Drained),
        Command::Enable { uplink } => set_admin(&uplink, AdminState::Enabled),
        Command::Drill { uplink, time, force, json } => {
            let request = api::drill::DrillRequest { uplink, time, force };
            runtime()?.block_on(drill::run(&instance::socket()?, &request, json))
        }
        Command::Reload { confirm } => reload::reload(confirm),
        Command::Confirm => reload::confirm(),
        Command::Replay { file, all } => print(&replay::replay(&file, all)?),
        Command::Import(arguments) => import::import(&arguments),
        Command::Teardown => {
            let instance = Instance::current()?;
            runtime()?.block_on(daemon::teardown_alone(&instance))
        }
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Runs the gateway to its end.
fn run_daemon(path: PathBuf, on_exit: Option<OnExitArg>, record: Option<PathBuf>) -> Result<()> {
    let (Parsed { config, warnings }, sources) = Sources::load(&path)?;
    log::start()?;
    warnings.lines().for_each(|warning| tracing::warn!("{warning}"));
    let on_exit = on_exit.map(|on_exit| match on_exit {
        OnExitArg::Keep => OnExit::Keep,
        OnExitArg::Teardown => OnExit::Teardown,
    });
    let recorder = record.map(|path| Recorder::create(&path)).transpose()?;
    let configured = Configured { path, config, sources };
    let runtime = runtime()?;
    let ran = runtime.block_on(daemon::run(configured, on_exit, recorder));
    // What hangs in a thread is not waited for.
    runtime.shutdown_background();
    log::end();
    ran
}

/// Checks a configuration and, for `machine`, what others have set up here.
fn check(path: &Path, machine: bool) -> Result<ExitCode> {
    let Parsed { config, warnings } = Config::load(path)?;
    if !warnings.problems().is_empty() {
        eprintln!("{warnings}");
    }
    let shown = path.display();
    if machine {
        let (clashes, hints) = runtime()?.block_on(plan::clashes(&config))?;
        eprint!("{}{hints}", plan::conflicts(&clashes));
        let count = clashes.iter().filter(|clash| !clash.compatible).count();
        if count > 0 {
            print(&format!("{shown} can be used, but {count} things on this machine clash\n"))?;
            return Ok(ExitCode::from(plan::EXIT_CLASH));
        }
    }
    let bonds = match config.bonds.len() {
        0 => String::new(),
        1 => ", 1 bond".into(),
        count => format!(", {count} bonds"),
    };
    let uplinks = config.uplinks.len();
    print(&format!("{shown}: fine, {uplinks} uplinks{bonds}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the status of the daemon.
fn show_status(json: bool) -> Result<()> {
    let text = request(Method::GET, "/status")?;
    if json {
        return print(&text);
    }
    let status = serde_json::from_str(&text).context("failed to read the status")?;
    print(&status::render(&status))
}

/// Prints the rules with their counters.
fn show_rules(json: bool) -> Result<()> {
    let text = request(Method::GET, "/rules")?;
    if json {
        return print(&(text + "\n"));
    }
    let used: Vec<_> = serde_json::from_str(&text).context("failed to read linkbal's answer")?;
    print(&rules::render(&used))
}

/// Prints the changes that `run` would make.
fn plan(path: &Path, json: bool) -> Result<ExitCode> {
    let Parsed { config, warnings } = Config::load(path)?;
    if !warnings.problems().is_empty() {
        eprintln!("{warnings}");
    }
    let plan = runtime()?.block_on(plan::Plan::make(&config))?;
    print(&if json { plan.json()? } else { plan.text(path) })?;
    Ok(match (plan.is_empty(), plan.clashes()) {
        (false, _) => ExitCode::from(plan::EXIT_DIFFERENT),
        (true, true) => ExitCode::from(plan::EXIT_CLASH),
        (true, false) => ExitCode::SUCCESS,
    })
}

/// Sets the administrative state of an uplink, and prints the result.
fn set_admin(uplink: &str, admin: AdminState) -> Result<()> {
    let text = request(Method::POST, &api::admin::path(uplink, admin))?;
    let AdminOutcome { uplink, admin, changed, warning } =
        serde_json::from_str(&text).context("failed to read linkbal's answer")?;
    if let Some(warning) = warning {
        eprintln!("linkbal: warning: {warning}");
    }
    let before = if changed { "now" } else { "already" };
    print(&format!("{uplink} is {before} {}\n", admin.name()))
}

/// Returns the answer of the daemon of this network namespace.
fn request(method: Method, path: &str) -> Result<String> {
    request_within(method, path, client::TIMEOUT)
}

fn request_within(method: Method, path: &str, limit: Duration) -> Result<String> {
    runtime()?.block_on(client::request(&instance::socket()?, method, path, limit))
}

/// Creates a runtime of one thread: it mostly waits, and the namespace is the thread's.
fn runtime() -> Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("failed to start the runtime")
}

/// Prints a line, and returns whether to go on: not if the reader is gone.
fn print_line(line: &str) -> Result<ControlFlow<()>> {
    match writeln!(std::io::stdout(), "{line}") {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(error).context("failed to print"),
    }
}

/// Prints a text; a reader that has gone away (`| head`) is no failure.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("failed to print"),
    }
}
