//! `linkbal health`: whether this gateway can carry packets, for keepalived, FRR and load balancers.

use anyhow::{Result, bail, ensure};

use crate::{
    api::status::{Status, Uplink},
    words::count,
};

/// Returns why this gateway can carry packets. An uplink on standby counts: only the virtual addresses
/// are missing, which the master has.
///
/// # Errors
///
/// If fewer than `needed` uplinks can; the error names the others, and why.
pub(super) fn judge(status: &Status, needed: usize) -> Result<String> {
    ensure!(status.installed, "unhealthy: linkbal is still setting up its routes and programs");
    let up = status.uplinks.iter().filter(|uplink| is(uplink, "up")).count();
    let waiting = status.uplinks.iter().filter(|uplink| !is(uplink, "up") && on_standby(uplink));
    let waiting = waiting.count();
    let of = count(status.uplinks.len(), "uplink");
    let on_standby = if waiting == 0 { String::new() } else { format!(", {waiting} on standby") };
    if up.saturating_add(waiting) < needed {
        let reasons: Vec<String> = status.uplinks.iter().filter_map(failing).collect();
        bail!("unhealthy: {up} of {of} up{on_standby}, {needed} needed: {}", reasons.join("; "));
    }
    Ok(format!("healthy: {up} of {of} up{on_standby}\n"))
}

fn is(uplink: &Uplink, state: &str) -> bool {
    uplink.state == state
}

fn on_standby(uplink: &Uplink) -> bool {
    [&uplink.ipv4, &uplink.ipv6].into_iter().flatten().any(|health| health.standby)
}

fn failing(uplink: &Uplink) -> Option<String> {
    let health = uplink.ipv4.as_ref().or(uplink.ipv6.as_ref())?;
    let fails = !is(uplink, "up") && !on_standby(uplink);
    fails.then(|| format!("{} is {}, {}", uplink.name, uplink.state, health.reason))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::status::tests::status;

    fn with(changes: impl Fn(&mut serde_json::Value)) -> Status {
        status(|status| {
            status["installed"] = json!(true);
            changes(status);
        })
    }

    #[test]
    fn so_many_uplinks_must_be_up_or_wait_for_their_addresses() {
        let said = judge(&with(|_| {}), 1).expect("healthy");
        assert!(said.starts_with("healthy: "), "{said}");
        let down = |status: &mut serde_json::Value, standby: bool| {
            for uplink in status["uplinks"].as_array_mut().expect("uplinks") {
                uplink["state"] = json!("down");
                for family in ["ipv4", "ipv6"] {
                    if uplink[family].is_object() {
                        uplink[family]["standby"] = json!(standby);
                        uplink[family]["reason"] = json!("no carrier on wan-a");
                    }
                }
            }
        };
        let error = judge(&with(|status| down(status, false)), 1).expect_err("unhealthy");
        assert!(error.to_string().contains("no carrier on wan-a"), "{error}");
        assert!(
            judge(&with(|status| down(status, true)), 1).expect("healthy").contains("on standby")
        );
        let error = judge(&with(|_| {}), 99).expect_err("unhealthy");
        assert!(error.to_string().contains("99 needed"), "{error}");
    }

    #[test]
    fn a_gateway_that_is_not_set_up_yet_is_unhealthy() {
        let status = with(|status| status["installed"] = json!(false));
        assert!(judge(&status, 0).is_err());
    }
}
