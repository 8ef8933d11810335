//! Steps 2 and 3: new flows by weight, and sessions that stay together.

use anyhow::Result;

use super::Tour;
use crate::topology::plan::Family;
use crate::traffic::{FlowResult, FlowSpec, HTTP, HTTPS, Protocol, flows_per_uplink, open_flows};

/// Number of portions in which flows are opened and shown.
const PORTIONS: usize = 10;
/// Number of characters of a full bar.
const BAR: usize = 12;
/// Number of flows of each sticky test.
const SESSIONS: usize = 100;

impl Tour {
    pub(super) fn show_balance(&mut self, flows: usize) -> Result<()> {
        self.screen.title(&format!("2. Balance: {flows} new flows of each family, TCP and UDP"));
        for family in Family::ALL {
            self.balance(family, flows)?;
        }
        Ok(())
    }

    fn balance(&mut self, family: Family, flows: usize) -> Result<()> {
        let [tcp, udp] = Protocol::ALL
            .map(|protocol| FlowSpec::spread(family, protocol, HTTP, flows.div_ceil(2)));
        let mut specs: Vec<_> = tcp.into_iter().zip(udp).flat_map(|(a, b)| [a, b]).collect();
        specs.truncate(flows);
        let mut seen = Vec::new();
        let mut text = String::new();
        for portion in specs.chunks(flows.div_ceil(PORTIONS).max(1)) {
            seen.extend(open_flows(&self.lab.lan, portion)?);
            text = format!("{family} {:>5}/{flows}  {}", seen.len(), self.bars(&seen));
            if seen.len() < flows {
                self.screen.progress(&text);
            }
        }
        let counts = flows_per_uplink(&seen, self.lab.uplinks.len());
        self.report.add_count(&format!("{family}: flows answered"), flows, counts.iter().sum());
        for (uplink, &count) in counts.iter().enumerate() {
            self.report_share(family, uplink, count, flows);
        }
        self.screen.result(&text);
        Ok(())
    }

    /// Reports the share of an uplink. Its flows are binomial: 3 sigma hold 99.7 % of all runs.
    fn report_share(&mut self, family: Family, uplink: usize, count: usize, flows: usize) {
        let share = self.lab.share(uplink);
        let flows = flows.max(1) as f64;
        let sigma = (share * (1.0 - share) / flows).sqrt();
        let had = count as f64 / flows;
        let what = format!("{family}: share of {}", self.name(uplink));
        let expected = format!("{:.1} % +- {:.1}", 100.0 * share, 300.0 * sigma);
        let ok = (had - share).abs() <= 3.0 * sigma;
        self.report.add(&what, &expected, &format!("{:.1} %", 100.0 * had), ok);
    }

    fn bars(&self, seen: &[FlowResult]) -> String {
        let counts = flows_per_uplink(seen, self.lab.uplinks.len());
        let total = counts.iter().sum::<usize>().max(1);
        let bars = counts.iter().enumerate().map(|(uplink, &count)| {
            let full = (BAR * count + total / 2) / total;
            let percent = 100.0 * count as f64 / total as f64;
            let (bar, rest) = ("#".repeat(full), ".".repeat(BAR - full));
            format!("{} [{bar}{rest}] {percent:>5.1} %", self.name(uplink))
        });
        bars.collect::<Vec<_>>().join("  ")
    }

    pub(super) fn show_sticky(&mut self) -> Result<()> {
        self.screen.title("3. Sessions: port 443 stays on one uplink per client and server");
        let session = |client| FlowSpec::new(Family::V4, Protocol::Tcp, client, 0, HTTPS);
        let one = [session(0); SESSIONS];
        let many: Vec<_> = (0..SESSIONS).map(session).collect();
        let used = self.sticky("one client to one server", &one)?;
        self.report.add_count("sticky: uplinks of one client and server", 1, used);
        let used = self.sticky("100 clients to one server", &many)?;
        self.report.add_count("sticky: uplinks of 100 clients", self.lab.uplinks.len(), used);
        Ok(())
    }

    /// Opens flows; returns the number of uplinks they used.
    fn sticky(&mut self, who: &str, flows: &[FlowSpec]) -> Result<usize> {
        let seen = open_flows(&self.lab.lan, flows)?;
        let counts = flows_per_uplink(&seen, self.lab.uplinks.len());
        let answered = counts.iter().sum();
        let text = format!("{} flows of {who}:  {}", flows.len(), self.bars(&seen));
        self.screen.line(&text);
        self.report.add_count(&format!("sticky: answers, {who}"), flows.len(), answered);
        Ok(counts.iter().filter(|count| **count > 0).count())
    }
}
