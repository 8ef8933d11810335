//! The baseline: what linkbal's packets may cost, beside masquerading in the same run, so that
//! another kernel does not count as a change of linkbal.

use serde_json::{Map, Value, json};

use super::{
    contenders::{LINKBAL, MASQUERADE},
    figures::Figure,
};

/// Maximum rise, as a share.
const TOLERANCE: f64 = 0.02;

/// Returns the baseline that a run makes.
pub(super) fn of(kernel: &str, figures: &[Figure]) -> Value {
    let instructions: Map<_, _> =
        figures.iter().map(|figure| (figure.name(), json!(figure.instructions.round()))).collect();
    json!({ "kernel": kernel, "instructions": instructions })
}

/// Returns the reasons why a run is worse than the baseline.
pub(super) fn faults(baseline: &Value, kernel: &str, figures: &[Figure]) -> Vec<String> {
    let ours = figures.iter().filter(|figure| figure.contender.starts_with(LINKBAL));
    let faults = ours.filter_map(|figure| fault(baseline, figure, figures));
    let mut faults: Vec<_> = faults.collect();
    let measured = baseline["kernel"].as_str().unwrap_or("none");
    if !faults.is_empty() && measured != kernel {
        faults.push(format!("the baseline is of another kernel: {measured}, now {kernel}"));
    }
    faults
}

fn fault(baseline: &Value, figure: &Figure, figures: &[Figure]) -> Option<String> {
    let name = figure.name();
    let Some(before) = baseline["instructions"][&name].as_f64() else {
        return Some(format!("{name}: the baseline has no such figure"));
    };
    let before = before * scale(baseline, figure, figures);
    let rise = figure.instructions / before - 1.0;
    (rise > TOLERANCE).then(|| {
        format!(
            "{name}: {:.0} instructions a packet instead of {before:.0}, {:.1} % more; {:.0} % are \
             allowed",
            figure.instructions,
            rise * 100.0,
            TOLERANCE * 100.0
        )
    })
}

/// Returns by how much masquerading costs more than in the baseline, where both know it.
fn scale(baseline: &Value, figure: &Figure, figures: &[Figure]) -> f64 {
    let same = |other: &&Figure| {
        other.contender == MASQUERADE
            && other.direction == figure.direction
            && other.flows == figure.flows
    };
    let now = figures.iter().find(same);
    let before = now.and_then(|now| baseline["instructions"][&now.name()].as_f64());
    now.zip(before).map_or(1.0, |(now, before)| now.instructions / before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(contender: &str, instructions: f64) -> Figure {
        let direction = "up".to_owned();
        Figure { contender: contender.into(), direction, flows: 500, instructions, spread: 0.0 }
    }

    #[test]
    fn a_rise_of_more_than_two_percent_is_a_fault() {
        let baseline = of("k", &[figure("linkbal", 10_000.0), figure("masquerade", 5_000.0)]);
        assert!(faults(&baseline, "k", &[figure("linkbal", 10_199.0)]).is_empty());
        assert!(faults(&baseline, "k", &[figure("linkbal", 9_000.0)]).is_empty());
        assert_eq!(
            faults(&baseline, "k", &[figure("linkbal", 10_300.0)]),
            ["linkbal, 500 flows, up: 10300 instructions a packet instead of 10000, 3.0 % more; \
              2 % are allowed"]
        );
        assert_eq!(faults(&baseline, "l", &[figure("linkbal", 10_300.0)]).len(), 2);
    }

    #[test]
    fn a_kernel_that_costs_more_is_no_fault_of_linkbal() {
        let baseline = of("k", &[figure("linkbal", 10_000.0), figure("masquerade", 5_000.0)]);
        let with = |linkbal| [figure("linkbal", linkbal), figure("masquerade", 5_500.0)];
        assert!(faults(&baseline, "l", &with(11_100.0)).is_empty());
        assert_eq!(faults(&baseline, "l", &with(11_300.0)).len(), 2);
    }

    #[test]
    fn only_linkbal_is_judged() {
        let baseline = of("k", &[figure("linkbal", 10_000.0), figure("masquerade", 5_000.0)]);
        assert!(faults(&baseline, "l", &[figure("masquerade", 6_000.0)]).is_empty());
    }

    #[test]
    fn what_the_baseline_lacks_is_a_fault() {
        let wanted = "linkbal, 500 flows, up: the baseline has no such figure";
        assert_eq!(faults(&json!({}), "k", &[figure("linkbal", 1.0)])[0], wanted);
    }
}
