//! `linkbal reload` and `linkbal confirm`.

use std::time::Duration;

use anyhow::{Context as _, Result};
use hyper::Method;

use super::{print, request, request_within};
use crate::api::{
    client,
    reload::{Reloaded, check_trial, path},
};

/// Reads the time of a trial, like `60s`.
pub(super) fn trial(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|_| "not a time like 60s or 5m".to_owned());
    check_trial(time?)
}

/// Makes the daemon read its configuration again, and prints the result.
pub(super) fn reload(confirm: Option<Duration>) -> Result<()> {
    let text = request_within(Method::POST, &path(confirm), client::RELOAD_TIMEOUT)?;
    let Reloaded { uplinks, warnings, confirm_within_s } =
        serde_json::from_str(&text).context("failed to read linkbal's answer")?;
    if !warnings.is_empty() {
        eprintln!("{warnings}");
    }
    print(&format!("the configuration is in force, with {uplinks} uplinks\n"))?;
    match confirm_within_s {
        None => Ok(()),
        Some(seconds) => print(&format!(
            "the one before comes back in {seconds} s unless you say `linkbal confirm`\n"
        )),
    }
}

/// Keeps the configuration that is on trial.
pub(super) fn confirm() -> Result<()> {
    request(Method::POST, "/confirm")?;
    print("the configuration stays in force\n")
}
