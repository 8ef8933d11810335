//! `linkbal disable`, `drain` and `enable`.

use anyhow::Result;
use hyper::Method;

use super::{print, request, stderr};
use crate::{
    api::{self, admin::AdminOutcome, client},
    engine::admin::AdminState,
};

/// Sets the administrative state of an uplink, and prints the result.
pub(super) fn set(uplink: &str, admin: AdminState) -> Result<()> {
    print(&(ask_admin(&api::admin::path(uplink, admin))? + "\n"))
}

/// Enables an uplink without the time to prove itself, and prints the result.
pub(super) fn enable_now(uplink: &str) -> Result<()> {
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
pub(super) fn admin_said(outcome: &AdminOutcome) -> String {
    let AdminOutcome { uplink, admin, changed, .. } = outcome;
    let before = if *changed { "now" } else { "already" };
    format!("{uplink} is {before} {}", admin.name())
}
