//! Reports with the names of devices in place of their indexes.

use super::{kernel::network::Snapshot, report::Report};

/// Puts names in place of indexes, as far as they are known.
pub(super) fn with_device_names(report: Report, snapshot: &Snapshot) -> Report {
    let named = |text: &str| snapshot.with_device_names(text);
    match report {
        Report::Repair { kind, what, more, by } => {
            let what = what.iter().map(|what| named(what)).collect();
            Report::Repair { kind, what, more, by }
        }
        Report::Throttled { what, by, pace } => Report::Throttled { what: named(&what), by, pace },
        Report::Refused { what, problem } => {
            let problem = problem.map(|problem| named(&problem));
            Report::Refused { what: named(&what), problem }
        }
        other => other,
    }
}
