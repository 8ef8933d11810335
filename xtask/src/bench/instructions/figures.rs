//! The figures of a run: read from the guest's output, shown as a table, kept as JSON.

use serde_json::{Value, json};

use super::{
    contenders::{MASQUERADE, MASQUERADE_IPV6},
    plan::DIRECTIONS,
};

/// Prefix of the lines with figures in the guest's output.
const MEASURED: &str = "measured ";
const FAILED: &str = "failed ";

/// Name of what makes the frames, which is no gateway.
pub(super) const GENERATOR: &str = "generator";

/// Instructions for a packet.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figure {
    pub(super) contender: String,
    pub(super) direction: String,
    pub(super) flows: u64,
    pub(super) instructions: f64,
    /// Difference between the rounds, as a share.
    pub(super) spread: f64,
}

impl Figure {
    fn of(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line.strip_prefix(MEASURED)?).ok()?;
        Some(Self {
            contender: value["contender"].as_str()?.to_owned(),
            direction: value["direction"].as_str()?.to_owned(),
            flows: value["flows"].as_u64()?,
            instructions: value["instructions"].as_f64()?,
            spread: value["spread"].as_f64()?,
        })
    }

    /// Returns the name of what was measured, such as `linkbal, 500 flows, up`.
    pub(super) fn name(&self) -> String {
        format!("{}, {} flows, {}", self.contender, self.flows, self.direction)
    }
}

/// Returns the figures in the output of a guest.
pub(super) fn read(output: &str) -> Vec<Figure> {
    output.lines().filter_map(Figure::of).collect()
}

/// Returns the contenders that failed, and why.
pub(super) fn failures(output: &str) -> Vec<String> {
    output.lines().filter_map(|line| line.strip_prefix(FAILED)).map(str::to_owned).collect()
}

/// Returns a figure as a ratio to masquerading of its family, in the same run.
pub(super) fn ratio(figure: &Figure, all: &[Figure]) -> Option<f64> {
    let base = if figure.contender.ends_with("ipv6") { MASQUERADE_IPV6 } else { MASQUERADE };
    let base = find(all, base, &figure.direction, figure.flows)?;
    Some(figure.instructions / base.instructions)
}

fn find<'a>(all: &'a [Figure], name: &str, direction: &str, flows: u64) -> Option<&'a Figure> {
    all.iter().find(|figure| {
        figure.contender == name && figure.direction == direction && figure.flows == flows
    })
}

/// Returns the numbers of flows, in the order of the run.
pub(super) fn numbers_of_flows(all: &[Figure]) -> Vec<u64> {
    let mut numbers: Vec<_> = all.iter().map(|figure| figure.flows).collect();
    numbers.dedup();
    numbers
}

/// Returns the figures in a table for each number of flows, with ratios to masquerading.
pub(super) fn table(all: &[Figure]) -> String {
    let mut text = String::new();
    for flows in numbers_of_flows(all) {
        let here: Vec<_> = all.iter().filter(|figure| figure.flows == flows).collect();
        let mut names: Vec<_> = here.iter().map(|figure| figure.contender.as_str()).collect();
        names.dedup();
        let title = format!("instructions a packet, {flows} flows");
        text += &format!("\n{title:<34}");
        for direction in DIRECTIONS {
            text += &format!("{direction:>9}{:8}", "");
        }
        text.truncate(text.trim_end().len());
        text += "\n";
        for name in names {
            text += &format!("  {name:<32}");
            for direction in DIRECTIONS {
                text += &cell(find(all, name, direction, flows), all);
            }
            text.truncate(text.trim_end().len());
            text += "\n";
        }
    }
    text
}

/// Returns a figure and its ratio, in 17 columns.
fn cell(figure: Option<&Figure>, all: &[Figure]) -> String {
    let Some(figure) = figure else { return format!("{:>9}{:8}", "-", "") };
    let ratio = ratio(figure, all).filter(|_| figure.contender != GENERATOR);
    let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2}x"));
    format!("{:>9.0} {ratio:<7}", figure.instructions)
}

/// Returns the figures for other programs.
pub(super) fn to_json(kernel: &str, all: &[Figure]) -> Value {
    let figures = all.iter().map(|figure| {
        json!({
            "contender": figure.contender,
            "direction": figure.direction,
            "flows": figure.flows,
            "instructions": figure.instructions,
            "ratio": ratio(figure, all),
            "spread": figure.spread,
        })
    });
    json!({ "kernel": kernel, "figures": figures.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "guest: ready after 5 s\n\
        measured {\"contender\":\"generator\",\"direction\":\"up\",\"flows\":500,\"instructions\":400.0,\"spread\":0.0}\n\
        measured {\"contender\":\"masquerade\",\"direction\":\"up\",\"flows\":500,\"instructions\":5000.0,\"spread\":0.001}\n\
        failed vyos: 3 of 500 packets from lan left\n\
        measured {\"contender\":\"linkbal\",\"direction\":\"up\",\"flows\":500,\"instructions\":6100.4,\"spread\":0.001}\n";

    #[test]
    fn figures_and_failures_are_read() {
        let figures = read(OUTPUT);
        let names: Vec<_> = figures.iter().map(Figure::name).collect();
        let wanted =
            ["generator, 500 flows, up", "masquerade, 500 flows, up", "linkbal, 500 flows, up"];
        assert_eq!(names, wanted);
        assert_eq!(failures(OUTPUT), ["vyos: 3 of 500 packets from lan left"]);
    }

    #[test]
    fn the_table_has_ratios_to_masquerading() {
        let wanted = "\n\
            instructions a packet, 500 flows         up             down              new\n  \
              generator                             400                -                -\n  \
              masquerade                           5000 1.00x          -                -\n  \
              linkbal                              6100 1.22x          -                -\n";
        assert_eq!(table(&read(OUTPUT)), wanted);
    }

    #[test]
    fn json_has_everything() {
        let all = to_json("k", &read(OUTPUT));
        assert_eq!(all["figures"][2]["ratio"], 6100.4 / 5000.0);
        assert_eq!(all["kernel"], "k");
    }
}
