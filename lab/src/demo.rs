//! The guided tour: linkbal's main job, shown and measured in the lab.

mod balance;
mod failover;
mod hold;
mod report;
mod screen;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use self::report::Report;
use self::screen::Screen;
use crate::daemon::{self, Daemon};
use crate::topology::plan::{CLIENTS, SERVERS};
use crate::topology::{Lab, Uplink, UplinkSpec};
use crate::traffic::Servers;

/// Time that both uplinks may take to come up.
const START: Duration = Duration::from_secs(30);

/// The options of the tour.
#[derive(Clone, Debug)]
pub struct Options {
    /// Set to keep the lab up instead of going on with the tour.
    pub hold: bool,
    /// The program to show; if `None`, that of [`daemon::find_program`].
    pub linkbal: Option<PathBuf>,
    /// Number of flows of each family to open in the balancing step.
    pub flows: usize,
}

/// The state of the tour. Its parts are dropped from the first to the last.
struct Tour {
    daemon: Daemon,
    _servers: Servers,
    lab: Lab,
    screen: Screen,
    report: Report,
}

/// Shows the tour on standard output; returns whether all results were as expected.
///
/// # Errors
/// When a step cannot be carried out, or the user interrupts it. Everything is removed then, too.
pub fn run(options: &Options) -> Result<bool> {
    let program = match &options.linkbal {
        Some(path) => daemon::absolute(path)?,
        None => daemon::find_program()?,
    };
    let screen = Screen::new();
    screen.title("1. A small internet in network namespaces; your own network stays as it is");
    let lab = Lab::new(&UplinkSpec::pair())?;
    draw(&screen, &lab);
    let servers = Servers::start(&lab.net)?;
    let daemon = Daemon::start_program(&program, &lab, &lab.config())?;
    let report = Report::default();
    let mut stage = Tour { daemon, _servers: servers, lab, screen, report };
    stage.wait_until_up()?;
    if options.hold {
        stage.hold()?;
        drop(stage);
        println!("\neverything is removed again");
        return Ok(true);
    }
    stage.show_balance(options.flows)?;
    stage.show_sticky()?;
    stage.show_faults()?;
    stage.screen.title("6. Summary");
    stage.screen.line(&stage.report.to_string());
    let all_ok = stage.report.all_ok();
    drop(stage);
    println!("everything is removed again");
    Ok(all_ok)
}

impl Tour {
    fn wait_until_up(&mut self) -> Result<()> {
        let start = std::time::Instant::now();
        self.screen.progress("linkbal starts in the gateway ...");
        self.daemon.wait_until_up(START)?;
        let took = report::time(start.elapsed());
        self.screen.result(&format!("linkbal runs in the gateway: all uplinks up after {took}"));
        Ok(())
    }

    fn name(&self, uplink: usize) -> &str {
        &self.lab.uplinks[uplink].spec.name
    }
}

fn draw(screen: &Screen, lab: &Lab) {
    screen.line(&format!(
        "{CLIENTS} clients         the gateway                     {SERVERS} servers"
    ));
    let total: u32 = lab.uplinks.iter().map(|uplink| uplink.spec.weight).sum();
    for (index, Uplink { spec, .. }) in lab.uplinks.iter().enumerate() {
        let left = match index {
            0 => "10.77.0.0/24 --- lan0 [linkbal]",
            1 => "fd77::/64             [linkbal]",
            _ => "                      [linkbal]",
        };
        let right = match index {
            0 => "198.51.100.0/24",
            1 => "2001:db8:ff::/64",
            _ => "",
        };
        let share = 100 * spec.weight / total;
        let (interface, name) = (&spec.interface, &spec.name);
        screen.line(&format!("{left} {interface} --- {name} ({share} %) --- {right}"));
    }
    screen.line("each server answers with the address it sees: that tells the uplink");
}
