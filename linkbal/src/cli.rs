//! The command line.

// What comes from outside must not stop the daemon.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod admin;
mod check;
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
mod gateway;
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
mod stdout;
mod subject;
mod top;

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use hyper::Method;

pub use self::command::Cli;
use self::{
    command::Command,
    exit::Exit,
    stdout::{print, print_line, terminal_width, width_of},
    subject::{FILE_TIMEOUT, config_or_daemons, tried},
};
use crate::{
    api,
    api::client,
    config::{ConfigError, Parsed, Sources, schema},
    engine::admin::AdminState,
    sys::host::{instance, privilege::require_root},
};

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
            gateway::run(config, on_exit, record, strict)
        }
        Command::Plan { config, json } => return plan(&config_or_daemons(config).0, json),
        Command::Check { explain: Some(key), .. } => return explain_key::print_key(&key),
        Command::Check { config, machine, .. } => return check::check(config, machine),
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
        Command::Disable { uplink } => admin::set(&uplink, AdminState::Disabled),
        Command::Drain { uplink } => admin::set(&uplink, AdminState::Drained),
        Command::Enable { uplink, now: false } => admin::set(&uplink, AdminState::Enabled),
        Command::Enable { uplink, now: true } => admin::enable_now(&uplink),
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
        Command::Teardown => gateway::teardown(),
    };
    done.map(|()| ExitCode::SUCCESS)
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
    Ok(match (plan.is_empty(), plan.has_problems()) {
        (false, _) => Exit::Different.into(),
        (true, true) => Exit::MachineProblem.into(),
        (true, false) => ExitCode::SUCCESS,
    })
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
    Ok(if diagnosis.is_fine() { ExitCode::SUCCESS } else { Exit::MachineProblem.into() })
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
