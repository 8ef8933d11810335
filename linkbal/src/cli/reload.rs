//! `linkbal reload` and `linkbal confirm`.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hyper::Method;

use super::{ask, ask_for, print};
use crate::api::{
    client,
    reload::{Reloaded, path},
};

/// Lets the daemon read its configuration again, and says what became of that.
pub(super) fn reload(confirm: Option<Duration>) -> Result<()> {
    let long_enough = confirm.is_none_or(|confirm| confirm >= Duration::from_secs(1));
    ensure!(long_enough, "failed to reload: nobody can confirm within less than a second");
    let text = ask_for(Method::POST, &path(confirm), client::PATIENCE_FOR_RELOAD)?;
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
    ask(Method::POST, "/confirm")?;
    print("the configuration stays in force\n")
}
