//! The length of a window, by which shortcuts are timed, in the kernel's timer ticks (`jiffies`).

use anyhow::{Context as _, Result};
use nix::time::{ClockId, clock_getres};

/// Returns the bits of `jiffies` below a window.
///
/// # Errors
///
/// If the kernel does not tell how long a jiffy is.
pub(super) fn shift() -> Result<u32> {
    // LOW_RES_NSEC of include/linux/hrtimer_defs.h: a jiffy.
    let resolution = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)
        .context("failed to ask for the length of a timer tick")?;
    let seconds = u64::try_from(resolution.tv_sec()).unwrap_or(0);
    let rest = u64::try_from(resolution.tv_nsec()).unwrap_or(0);
    Ok(of(seconds.saturating_mul(1_000_000_000).saturating_add(rest)))
}

/// Returns how often to halve a number of jiffies of so many nanoseconds, so that one is no longer
/// than a second, or but a few percent longer.
fn of(jiffy_ns: u64) -> u32 {
    let most = 1_031_000_000_u64.checked_div(jiffy_ns);
    most.and_then(u64::checked_ilog2).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_about_a_second() {
        for (hz, shift) in [(100, 6), (250, 8), (300, 8), (1000, 10)] {
            assert_eq!(of(1_000_000_000 / hz), shift, "CONFIG_HZ={hz}");
        }
        for strange in [0, 1, u64::MAX] {
            assert!(of(strange) < 63);
        }
    }
}
