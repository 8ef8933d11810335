//! `linkbal reload`, `linkbal confirm` and `linkbal undo`.

use std::{path::Path, time::Duration};

use anyhow::Result;
use hyper::Method;

use super::{plan, print, request, request_within, runtime, stderr, terminal_width};
use crate::{
    api::{
        client,
        reload::{Reloaded, check_trial, path},
    },
    config::{Parsed, Sources},
    sys::host::privilege::require_root,
    words::count,
};

/// Reads the time of a trial, like `60s`.
pub(super) fn trial(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|_| "not a time like 60s or 5m".to_owned());
    check_trial(time?)
}

/// Makes the daemon read its configuration again, and prints the result.
pub(super) fn reload(confirm: Option<Duration>) -> Result<()> {
    let text = request_within(Method::POST, &path(confirm), client::RELOAD_TIMEOUT)?;
    let reloaded: Reloaded = client::read(&text)?;
    if !reloaded.warnings.is_empty() {
        stderr::line(format_args!("{}", reloaded.warnings));
    }
    print(&said(&reloaded))?;
    warn_of_mistakes(Path::new(&reloaded.file));
    Ok(())
}

/// Says what of a configuration that is in force does not fit this machine, to those who may know.
fn warn_of_mistakes(path: &Path) {
    if require_root().is_err() {
        return;
    }
    let Ok((Parsed { config, .. }, sources)) = Sources::load(path) else { return };
    let looked =
        runtime().and_then(|it| it.block_on(plan::machine_problems(&config, &sources, path)));
    match looked {
        Ok(found) => {
            stderr::text(format_args!("{:width$}", found.findings, width = terminal_width()));
        }
        Err(error) => stderr::line(format_args!(
            "linkbal: whether it fits this machine is unknown: {error:#}"
        )),
    }
}

/// Returns what became of a reload: the difference from before, and what is in force.
fn said(reloaded: &Reloaded) -> String {
    let Reloaded { uplinks, file, changes, confirm_within_s, .. } = reloaded;
    let changes = match &changes[..] {
        [] => format!("{file} is as it was\n"),
        lines => format!("{file}, compared with what was in force:\n{}\n", lines.join("\n")),
    };
    let uplinks = count(*uplinks, "uplink");
    let trial = confirm_within_s.map_or(String::new(), |seconds| {
        format!(
            "the one before comes back in {seconds} s unless you say `linkbal confirm`; `linkbal undo` \
             brings it back at once\n"
        )
    });
    format!("{changes}the configuration is in force, with {uplinks}\n{trial}")
}

/// Keeps the configuration that is on trial.
pub(super) fn confirm() -> Result<()> {
    request(Method::POST, "/v1/confirm")?;
    print("the configuration stays in force\n")
}

/// Brings back the configuration before the one that is on trial.
pub(super) fn undo() -> Result<()> {
    request_within(Method::POST, "/v1/undo", client::RELOAD_TIMEOUT)?;
    print("the configuration before is in force again\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_shows_what_differs_and_which_file_it_read() {
        let reloaded = Reloaded {
            uplinks: 1,
            file: "a.toml".into(),
            changes: vec!["  [uplink.a]".into(), "+ weight = 2".into()],
            warnings: String::new(),
            confirm_within_s: Some(60),
            unwritable: None,
        };
        assert_eq!(
            said(&reloaded),
            "a.toml, compared with what was in force:\n  [uplink.a]\n+ weight = 2\nthe configuration \
             is in force, with 1 uplink\nthe one before comes back in 60 s unless you say `linkbal \
             confirm`; `linkbal undo` brings it back at once\n"
        );
        let same = Reloaded { changes: Vec::new(), confirm_within_s: None, ..reloaded };
        assert_eq!(
            said(&same),
            "a.toml is as it was\nthe configuration is in force, with 1 uplink\n"
        );
    }
}
