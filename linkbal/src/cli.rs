//! The command line.

// What comes from outside must not stop the daemon.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod clients;
mod command;
mod doctor;
mod drill;
mod end;
mod events;
mod example;
mod exit;
mod explain;
mod explain_key;
mod flow_query;
mod flows;
mod fold;
mod health;
mod help;
mod history;
mod import;
mod init;
mod leased;
mod local_time;
mod log;
mod manual;
mod new_file;
mod notify;
mod plan;
mod reload;
mod replay;
mod rules;
mod status;
mod stderr;
mod top;

use std::{
    io::Write as _,
    ops::ControlFlow,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result};
use hyper::Method;

pub use self::command::Cli;
use self::{
    command::{Command, OnExitArg},
    exit::Exit,
};
use crate::{
    api::{self, admin::AdminOutcome, client, status::Status},
    config::{
        Config, ConfigError, DEFAULT_PATH as DEFAULT_CONFIG, Parsed, Problem, Severity, Sources,
        schema,
    },
    daemon::{self, Configured, OnExit, record::Recorder},
    engine::{admin::AdminState, doctor::Complaint},
    sys::host::{
        self,
        instance::{self, Instance},
        memory,
        privilege::require_root,
    },
    words::count,
};

/// Longest time to ask a daemon which file it runs with.
const FILE_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs a command; returns the exit code, as `Exit::help` lists them.
pub fn run(cli: Cli) -> ExitCode {
    match execute(cli.command) {
        Ok(code) => code,
        Err(error) => {
            match error.downcast_ref::<ConfigError>() {
                // It renders itself, over several lines.
                Some(broken) => {
                    stderr::line(format_args!("{broken:width$}", width = terminal_width()));
                }
                None => stderr::line(format_args!("linkbal: {error:#}")),
            }
            exit::of_error(&error).into()
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
        Command::Health { uplinks, family: families, address } => {
            let master_of = address.filter(|address| health::is_own(*address));
            show_health(health::Needed { uplinks: uplinks.into(), families, master_of })
        }
        Command::Status { wide, watch: Some(seconds), .. } => {
            let pause = Duration::from_secs(seconds);
            runtime()?.block_on(status::watch::watch(&instance::socket()?, wide, pause))
        }
        Command::Status { wide, json, watch: None } => show_status(wide, json),
        Command::Top => show_top(),
        Command::Flows(args) => runtime()?.block_on(flows::run(&instance::socket()?, &args)),
        Command::Clients(args) => runtime()?.block_on(clients::run(&instance::socket()?, &args)),
        Command::Explain(args) => explain::explain(&args),
        Command::Rules { json } => show_rules(json),
        Command::Events(wanted) => runtime()?.block_on(events::print(&instance::socket()?, wanted)),
        Command::History(args) => runtime()?.block_on(history::run(&instance::socket()?, &args)),
        Command::Disable { uplink } => set_admin(&uplink, AdminState::Disabled),
        Command::Drain { uplink } => set_admin(&uplink, AdminState::Drained),
        Command::Enable { uplink, now: false } => set_admin(&uplink, AdminState::Enabled),
        Command::Enable { uplink, now: true } => enable_now(&uplink),
        Command::Drill { uplink, time, force, json } => {
            let request = api::drill::DrillRequest { uplink, time, force };
            runtime()?.block_on(drill::run(&instance::socket()?, &request, json))
        }
        Command::Notify { receiver, test, json } => {
            return notify::run(receiver.as_deref(), test, json);
        }
        Command::Reload { confirm } => reload::reload(confirm),
        Command::Confirm => reload::confirm(),
        Command::Undo => reload::undo(),
        Command::Replay { file, all } => print(&replay::replay(&file, all)?),
        Command::Init(arguments) => return init::init(&arguments),
        Command::Import(arguments) => import::import(&arguments),
        Command::Example { list: true, .. } => print(&example::list(width_of(std::io::stdout()))),
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
    memory::limit_arenas();
    // A reload, an edit and the status name it wherever whoever asks is.
    let configured = configured(std::path::absolute(&path).unwrap_or(path), strict)?;
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
    let asked = request_within(Method::GET, "/v1/status", FILE_TIMEOUT);
    let hanging = asked.is_err().then(|| Instance::unprepared().ok()?.holder()).flatten();
    if let Some(pid) = hanging {
        stderr::line(format_args!(
            "linkbal: the daemon (process {pid}) does not tell its file: {DEFAULT_CONFIG} is looked at; \
             --config names another"
        ));
    }
    let status = asked.ok().and_then(|text| serde_json::from_str::<Status>(&text).ok());
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
        stderr::line(format_args!(
            "linkbal: the daemon runs with the last good configuration, of {}, since the file could \
             not be used at its start; once it can, say `linkbal reload`",
            good.saved
        ));
    }
    let (Parsed { config, warnings }, sources) = Sources::load(path)?;
    if !warnings.problems().is_empty() {
        stderr::line(format_args!("{warnings:width$}", width = terminal_width()));
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
    let width = terminal_width();
    stderr::text(format_args!(
        "{:width$}{}{}",
        found.findings,
        plan::conflicts(&found.conflicts),
        found.hints
    ));
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
    let text = request(Method::GET, "/v1/status")?;
    if json {
        return print(&format!("{}\n", text.trim_end()));
    }
    let status = client::read(&text)?;
    let text = status::render(&status, wide, &local_time::Zone::system());
    print(&if wide { text.into() } else { fold::for_people(&text) })
}

/// Prints whether this gateway can carry packets; an error if it cannot.
fn show_health(needed: health::Needed) -> Result<()> {
    // Who asks does so every second.
    let text = request_within(Method::GET, "/v1/status", FILE_TIMEOUT)?;
    print(&health::judge(&client::read(&text)?, needed)?)
}

/// Shows the gateway live.
fn show_top() -> Result<()> {
    let runtime = runtime()?;
    let shown = runtime.block_on(top::run(&instance::socket()?));
    // What hangs in a thread is not waited for.
    runtime.shutdown_background();
    shown
}

/// Prints the rules with their counters.
fn show_rules(json: bool) -> Result<()> {
    let text = request(Method::GET, "/v1/rules")?;
    if json {
        return print(&(text + "\n"));
    }
    let used: Vec<_> = client::read(&text)?;
    print(&rules::render(&used))
}

/// Prints the changes that `run` would make.
fn plan(path: &Path, json: bool) -> Result<ExitCode> {
    require_root()?;
    let (Parsed { config, warnings }, sources) = Sources::load(path)?;
    if !warnings.problems().is_empty() {
        stderr::line(format_args!("{warnings:width$}", width = terminal_width()));
    }
    let plan = runtime()?.block_on(plan::Plan::make(&config, &sources, path))?;
    stderr::text(format_args!("{:width$}", plan.findings(), width = terminal_width()));
    print(&if json { plan.json()? } else { plan.text(path) })?;
    Ok(match (plan.is_empty(), plan.clashes()) {
        (false, _) => Exit::Different.into(),
        (true, true) => Exit::Clash.into(),
        (true, false) => ExitCode::SUCCESS,
    })
}

/// Returns the configuration in force, if a daemon runs with the file at `path`, whatever that has now.
///
/// # Errors
///
/// If no daemon answers, or what it has cannot be read.
fn in_force(path: &Path) -> Result<Option<(Parsed, Sources)>> {
    let text = request_within(Method::GET, "/v1/configuration", FILE_TIMEOUT)?;
    let found: api::configuration::Configuration = client::read(&text)?;
    let same = |file: &str| {
        Path::new(file) == path || path.canonicalize().is_ok_and(|it| it == Path::new(file))
    };
    if !same(&found.status.file) {
        return Ok(None);
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let read = |named: &Path| host::file::read_text(named, host::file::LARGE);
    let parsed = Config::parse_with(&found.text, path, &read)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let files = found.files.iter().map(PathBuf::from);
    let files = files.filter_map(|file| Some((file.clone(), read(&folder.join(file)).ok()?)));
    let files = files.collect();
    Ok(Some((parsed, Sources { name, text: found.text, files })))
}

/// Returns what `doctor` tries: what is in force or, if no daemon answers, what the file has; and what
/// is to say of the file.
///
/// # Errors
///
/// If the file cannot be used, and nothing is in force in its place.
fn tried(path: &Path) -> Result<(Parsed, Sources, Option<Complaint>)> {
    match (in_force(path), Sources::load(path)) {
        (Ok(Some((parsed, sources))), Ok((_, file))) => {
            let changed = (file != sources).then(|| doctor::changed(path));
            Ok((parsed, sources, changed))
        }
        (Ok(Some((parsed, sources))), Err(error)) => {
            Ok((parsed, sources, Some(doctor::unusable(path, &error))))
        }
        (_, Ok((parsed, sources))) => Ok((parsed, sources, None)),
        (Ok(None), Err(error)) => Err(error.into()),
        (Err(silence), Err(error)) => {
            stderr::line(format_args!("linkbal: {silence:#}"));
            Err(error.into())
        }
    }
}

/// Tries the gateway, and prints what is wrong.
fn doctor(path: &Path, json: bool) -> Result<ExitCode> {
    require_root()?;
    let (Parsed { config, .. }, sources, fault) = tried(path)?;
    let making = doctor::Diagnosis::make(&config, &sources, path, fault);
    let diagnosis = runtime()?.block_on(making)?;
    print(&if json {
        diagnosis.json()?
    } else {
        fold::for_people(&diagnosis.text()).into_owned()
    })?;
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
    let outcome: AdminOutcome = client::read(&text)?;
    if let Some(warning) = &outcome.warning {
        stderr::line(format_args!("linkbal: warning: {warning}"));
    }
    Ok(admin_said(&outcome))
}

/// Says what became of a request for another administrative state, without the warning.
fn admin_said(outcome: &AdminOutcome) -> String {
    let AdminOutcome { uplink, admin, changed, .. } = outcome;
    let before = if *changed { "now" } else { "already" };
    format!("{uplink} is {before} {}", admin.name())
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

/// Columns of lines for people where the output is no terminal.
const COLUMNS: usize = 100;

/// Returns the width of lines for people on standard error.
fn terminal_width() -> usize {
    width_of(std::io::stderr())
}

fn width_of(output: impl AsFd) -> usize {
    let size = terminal_size::terminal_size_of(output);
    size.map_or(COLUMNS, |(width, _)| usize::from(width.0))
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
