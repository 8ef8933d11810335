//! `cargo xtask run`: linkbal itself, or a lab to see it work in.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
    process::Command,
};

use anyhow::Result;

use crate::{
    build::release_binary,
    process::{become_program, cargo, require_root, succeed, target_dir},
    setup::{Need, setup},
};

/// The configuration of an installed linkbal.
const CONFIG_FILE: &str = "/etc/linkbal/linkbal.toml";

/// Arguments of `cargo xtask run`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leave the lab standing until Ctrl-C
    #[arg(long)]
    lab_hold: bool,
    /// Arguments for `linkbal run`, with `--config FILE` or if /etc/linkbal/linkbal.toml exists;
    /// otherwise for the lab
    #[arg(last = true)]
    rest: Vec<OsString>,
}

/// Sets up, builds, and becomes linkbal or the lab.
///
/// # Errors
/// If a step fails; never returns otherwise.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    require_root("run", "to load eBPF programs and change routes")?;
    setup(Need::Run)?;
    let linkbal = release_binary()?;
    let mut program = match daemon_arguments(&arguments.rest, Path::new(CONFIG_FILE)) {
        Some(daemon_arguments) if !arguments.lab_hold => {
            let mut daemon = Command::new(&linkbal);
            daemon.arg("run").args(daemon_arguments);
            daemon
        }
        _ => lab(&linkbal, arguments)?,
    };
    become_program(&mut program)
}

/// Returns the arguments of `linkbal run`; `None` if no configuration is named or installed.
fn daemon_arguments(rest: &[OsString], installed: &Path) -> Option<Vec<OsString>> {
    let names_config = |argument: &OsString| {
        argument == "--config" || argument.as_encoded_bytes().starts_with(b"--config=")
    };
    if rest.iter().any(names_config) {
        return Some(rest.to_vec());
    }
    let config = [OsStr::new("--config"), installed.as_os_str()].map(OsStr::to_owned);
    installed.exists().then(|| config.into_iter().chain(rest.iter().cloned()).collect())
}

fn lab(linkbal: &Path, arguments: &Arguments) -> Result<Command> {
    println!(
        "no configuration: linkbal runs in a lab of its own; this machine's network stays as it is"
    );
    let build = ["build", "--release", "--package", "linkbal-lab", "--bin", "linkbal-lab"];
    succeed(&mut cargo(build))?;
    let mut lab = Command::new(target_dir()?.join("release/linkbal-lab"));
    lab.arg("--linkbal").arg(linkbal);
    if arguments.lab_hold {
        lab.arg("--hold");
    }
    lab.args(&arguments.rest);
    Ok(lab)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn a_named_configuration_is_used_as_it_is() {
        for named in [strings(&["--config", "a.toml"]), strings(&["-v", "--config=a.toml"])] {
            assert_eq!(daemon_arguments(&named, Path::new("/")), Some(named.clone()));
        }
    }

    #[test]
    fn an_installed_configuration_is_named() {
        let expected = strings(&["--config", "/", "-v"]);
        assert_eq!(daemon_arguments(&strings(&["-v"]), Path::new("/")), Some(expected));
    }

    #[test]
    fn without_a_configuration_the_lab_runs() {
        assert_eq!(daemon_arguments(&strings(&["-v"]), Path::new("/nonexistent/file")), None);
    }
}
