//! The command line.

// What comes from outside must not stop the daemon.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod clients;
mod doctor;
mod drill;
mod events;
mod example;
mod exit;
mod explain;
mod explain_key;
mod flow_query;
mod flows;
mod help;
mod import;
mod local_time;
mod log;
mod manual;
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

use self::exit::Exit;
use crate::{
    api::{self, admin::AdminOutcome, client, status::Status},
    config::{Config, ConfigError, Parsed, Problem, Severity, Sources, schema},
    daemon::{self, Configured, OnExit, record::Recorder},
    engine::admin::AdminState,
    sys::host::{
        instance::{self, Instance},
        privilege::require_root,
    },
    words::count,
};

/// Default path of the configuration.
const DEFAULT_CONFIG: &str = "/etc/linkbal/linkbal.toml";

/// Longest time to ask a daemon which file it runs with.
const FILE_TIMEOUT: Duration = Duration::from_secs(2);

/// Spreads the flows of a network over several internet uplinks.
#[derive(Debug, Parser)]
#[command(name = "linkbal", version, after_help = Exit::help())]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
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
        /// Explain a key, like uplink.weight, instead of checking
        #[arg(long, value_name = "KEY", conflicts_with_all = ["config", "machine"])]
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
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
    },
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
    /// Play a recording of `linkbal run --record` again, and print the decisions
    #[command(after_help = help::REPLAY)]
    Replay {
        /// The recording
        file: PathBuf,
        /// Print every command in full, also those that come all the time
        #[arg(long)]
        all: bool,
    },
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
enum OnExitArg {
    /// Leave it forwarding with its last state
    Keep,
    /// Remove everything
    Teardown,
}

/// Runs a command; returns the exit code, as `Exit::help` lists them.
pub fn run(cli: Cli) -> ExitCode {
    match execute(cli.command) {
        Ok(code) => code,
        Err(error) if error.is::<ConfigError>() => {
            // It renders itself, over several lines.
            eprintln!("{error}");
            Exit::Unusable.into()
        }
        Err(error) => {
            eprintln!("linkbal: {error:#}");
            Exit::Failed.into()
        }
    }
}

fn execute(command: Command) -> Result<ExitCode> {
    let done = match command {
        Command::Run { config, on_exit, record, strict } => {
            run_daemon(config, on_exit, record, strict)
        }
        Command::Plan { config, json } => return plan(&config_or_daemons(config).0, json),
        Command::Check { explain: Some(key), .. } => return explain_key::print_key(&key),
        Command::Check { config, machine, .. } => return check(config, machine),
        Command::Doctor { config, json } => return doctor(&config_or_daemons(config).0, json),
        Command::Status { wide, json } => show_status(wide, json),
        Command::Flows(args) => runtime()?.block_on(flows::run(&instance::socket()?, &args)),
        Command::Clients(args) => runtime()?.block_on(clients::run(&instance::socket()?, &args)),
        Command::Explain(args) => explain::explain(&args),
        Command::Rules { json } => show_rules(json),
        Command::Events(wanted) => runtime()?.block_on(events::print(&instance::socket()?, wanted)),
        Command::Disable { uplink } => set_admin(&uplink, AdminState::Disabled),
        Command::Drain { uplink } => set_admin(&uplink, AdminState::Drained),
        Command::Enable { uplink, now: false } => set_admin(&uplink, AdminState::Enabled),
        Command::Enable { uplink, now: true } => enable_now(&uplink),
        Command::Drill { uplink, time, force, json } => {
            let request = api::drill::DrillRequest { uplink, time, force };
            runtime()?.block_on(drill::run(&instance::socket()?, &request, json))
        }
        Command::Reload { confirm } => reload::reload(confirm),
        Command::Confirm => reload::confirm(),
        Command::Replay { file, all } => print(&replay::replay(&file, all)?),
        Command::Import(arguments) => import::import(&arguments),
        Command::Example { list: true, .. } => print(&example::list()),
        Command::Example { name, .. } => print(example::text(name.as_deref())?),
        Command::Schema => print(&schema::text()),
        Command::Completions { shell } => {
            print(&String::from_utf8_lossy(&manual::completions(shell)))
        }
        Command::Man { folder } => manual::write(&folder),
        Command::Teardown => teardown(),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Runs the gateway to its end.
fn run_daemon(
    path: PathBuf,
    on_exit: Option<OnExitArg>,
    record: Option<PathBuf>,
    strict: bool,
) -> Result<()> {
    require_root()?;
    let configured = configured(path, strict)?;
    let on_exit = on_exit.map(|on_exit| match on_exit {
        OnExitArg::Keep => OnExit::Keep,
        OnExitArg::Teardown => OnExit::Teardown,
    });
    let recorder = record.map(|path| Recorder::create(&path)).transpose()?;
    let runtime = runtime()?;
    let ran = runtime.block_on(daemon::run(configured, on_exit, recorder));
    // What hangs in a thread is not waited for.
    runtime.shutdown_background();
    log::end();
    ran
}

/// Reads the configuration to run with, and starts the log.
fn configured(path: PathBuf, strict: bool) -> Result<Configured> {
    let loaded = Sources::load(&path);
    let (Parsed { config, warnings }, sources) = match loaded {
        Err(error) if strict => return Err(error.into()),
        Err(error) => {
            log::start()?;
            return Ok(daemon::instead_of(path, error)?);
        }
        Ok(loaded) => loaded,
    };
    log::start()?;
    warnings.lines().for_each(|warning| tracing::warn!("{warning}"));
    Ok(Configured { path, config, sources, fallback: None, strict })
}

/// Removes everything, and prints what there was.
fn teardown() -> Result<()> {
    require_root()?;
    let instance = Instance::current()?;
    let lines = runtime()?.block_on(daemon::teardown_alone(&instance))?.lines();
    if lines.is_empty() {
        return print("there was nothing of linkbal's to remove\n");
    }
    print(&lines.iter().map(|line| format!("{line}\n")).collect::<String>())
}

/// Returns the file that was named; else that of the daemon in this network namespace, with its
/// status; else the default one.
fn config_or_daemons(named: Option<PathBuf>) -> (PathBuf, Option<Status>) {
    if let Some(path) = named {
        return (path, None);
    }
    let status = request_within(Method::GET, "/status", FILE_TIMEOUT).ok();
    let status = status.and_then(|text| serde_json::from_str::<Status>(&text).ok());
    match status {
        Some(status) if !status.configuration.file.is_empty() => {
            (PathBuf::from(&status.configuration.file), Some(status))
        }
        _ => (DEFAULT_CONFIG.into(), None),
    }
}

/// Checks a configuration and, for `machine`, what others have set up here.
fn check(config: Option<PathBuf>, machine: bool) -> Result<ExitCode> {
    if machine {
        require_root()?;
    }
    let (path, daemon) = config_or_daemons(config);
    let path = path.as_path();
    let last_good = daemon.as_ref().and_then(|status| status.configuration.last_good.as_ref());
    if let Some(good) = last_good {
        eprintln!(
            "linkbal: the daemon runs with the last good configuration, of {}, since the file could \
             not be used at its start; once it can, say `linkbal reload`",
            good.saved
        );
    }
    let (Parsed { config, warnings }, sources) = Sources::load(path)?;
    if !warnings.problems().is_empty() {
        eprintln!("{warnings}");
    }
    let shown = path.display();
    if machine && let Some(summary) = check_machine(&config, &sources, path)? {
        print(&format!("{shown} can be used, but {summary}\n"))?;
        return Ok(Exit::Clash.into());
    }
    let bonds = match config.bonds.len() {
        0 => String::new(),
        bonds => format!(", {}", count(bonds, "bond")),
    };
    let uplinks = count(config.uplinks.len(), "uplink");
    let whose = if daemon.is_some() { " (the file of the daemon that runs)" } else { "" };
    print(&format!("{shown}: fine, {uplinks}{bonds}{whose}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Shows what does not fit a configuration on this machine; returns a summary if something is bad.
fn check_machine(config: &Config, sources: &Sources, path: &Path) -> Result<Option<String>> {
    let found = runtime()?.block_on(plan::clashes(config, sources, path))?;
    eprint!("{}{}{}", found.findings, plan::conflicts(&found.conflicts), found.hints);
    let bad = |(severity, _): &&(Severity, Problem)| *severity != Severity::Hint;
    let mistakes = found.findings.found().iter().filter(bad).count();
    let clashes = found.conflicts.iter().filter(|clash| !clash.compatible).count();
    let things = |count: usize, one: &str, more: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        count => Some(format!("{count} {more}")),
    };
    let parts = [
        things(mistakes, "value does not fit this machine", "values do not fit this machine"),
        things(clashes, "thing on this machine clashes", "things on this machine clash"),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    Ok((!parts.is_empty()).then(|| parts.join(" and ")))
}

/// Prints the status of the daemon.
fn show_status(wide: bool, json: bool) -> Result<()> {
    let text = request(Method::GET, "/status")?;
    if json {
        return print(&text);
    }
    let status = serde_json::from_str(&text).context("failed to read the status")?;
    print(&status::render(&status, wide, &local_time::Zone::system()))
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
    require_root()?;
    let (Parsed { config, warnings }, sources) = Sources::load(path)?;
    if !warnings.problems().is_empty() {
        eprintln!("{warnings}");
    }
    let plan = runtime()?.block_on(plan::Plan::make(&config, &sources, path))?;
    eprint!("{}", plan.findings());
    print(&if json { plan.json()? } else { plan.text(path) })?;
    Ok(match (plan.is_empty(), plan.clashes()) {
        (false, _) => Exit::Different.into(),
        (true, true) => Exit::Clash.into(),
        (true, false) => ExitCode::SUCCESS,
    })
}

/// Tries the gateway, and prints what is wrong.
fn doctor(path: &Path, json: bool) -> Result<ExitCode> {
    require_root()?;
    let (Parsed { config, .. }, sources) = Sources::load(path)?;
    let diagnosis = runtime()?.block_on(doctor::Diagnosis::make(&config, &sources, path))?;
    print(&if json { diagnosis.json()? } else { diagnosis.text() })?;
    Ok(if diagnosis.is_fine() { ExitCode::SUCCESS } else { Exit::Clash.into() })
}

/// Sets the administrative state of an uplink, and prints the result.
fn set_admin(uplink: &str, admin: AdminState) -> Result<()> {
    print(&(ask_admin(&api::admin::path(uplink, admin))? + "\n"))
}

/// Enables an uplink without the time to prove itself, and prints the result.
fn enable_now(uplink: &str) -> Result<()> {
    let said = ask_admin(&api::admin::enable_now(uplink))?;
    print(&format!(
        "{said}, and used with its first good round of probes: `hold`, `success_count` and flap \
         damping are skipped this time\n"
    ))
}

/// Returns what became of a request for another administrative state.
fn ask_admin(path: &str) -> Result<String> {
    let text = request(Method::POST, path)?;
    let AdminOutcome { uplink, admin, changed, warning } =
        serde_json::from_str(&text).context("failed to read linkbal's answer")?;
    if let Some(warning) = warning {
        eprintln!("linkbal: warning: {warning}");
    }
    let before = if changed { "now" } else { "already" };
    Ok(format!("{uplink} is {before} {}", admin.name()))
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
