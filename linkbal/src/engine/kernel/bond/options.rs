//! The options of a bond, in the kernel's numbers (include/uapi/linux/if_bonding.h).

use std::{collections::BTreeSet, net::Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::config::{Bond, BondMode, Monitor, Named as _};

/// The options of a bond that linkbal sets.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Options {
    /// Mode.
    pub mode: u8,
    /// Interval of carrier monitoring in milliseconds; 0: none.
    pub miimon: u32,
    /// Interval of ARP monitoring in milliseconds; 0: none.
    pub arp_interval: u32,
    /// Targets of the ARP requests.
    pub arp_targets: BTreeSet<Ipv4Addr>,
    /// Validation of ARP answers.
    pub arp_validate: u8,
    /// The preferred member, if it is in the bond now.
    pub primary: Option<String>,
    /// LACP rate.
    pub lacp_rate: u8,
    /// Transmit hash policy.
    pub xmit_hash_policy: u8,
}

/// One option and its value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BondOption {
    /// The mode; only while the bond is down and without members.
    Mode(u8),
    /// The interval of carrier monitoring, which ends ARP monitoring.
    Miimon(u32),
    /// The interval of ARP monitoring, which ends carrier monitoring.
    ArpInterval(u32),
    /// The ARP targets, at most 16.
    ArpTargets(BTreeSet<Ipv4Addr>),
    /// The validation of ARP answers; only in modes that have ARP.
    ArpValidate(u8),
    /// The preferred member; only in modes that have one. `None`: no member is preferred.
    Primary(Option<String>),
    /// The LACP rate; only in mode 802.3ad while the bond is down.
    LacpRate(u8),
    /// The transmit hash policy; at any time.
    XmitHashPolicy(u8),
}

impl Options {
    /// Returns the options that the configuration wants.
    pub fn wanted(bond: &Bond) -> Options {
        let (miimon, arp_interval, arp_targets, arp_validate) = match &bond.monitor {
            Monitor::Carrier { interval } => (*interval, 0, BTreeSet::new(), 0),
            Monitor::Arp { interval, targets, validate } => {
                (0, *interval, targets.iter().copied().collect(), validate.number())
            }
        };
        Options {
            mode: bond.mode.number(),
            miimon,
            arp_interval,
            arp_targets,
            arp_validate,
            primary: bond.primary.clone(),
            lacp_rate: bond.lacp_rate.number(),
            xmit_hash_policy: bond.xmit_hash_policy.number(),
        }
    }

    /// Returns the options to set while the bond is down to get to `goal`, in order. The LACP rate
    /// is set before that mode is left, too: it would still be shown.
    pub(super) fn steps_while_down(&self, goal: &Options) -> Vec<BondOption> {
        let mut steps = Vec::new();
        let rate = || BondOption::LacpRate(goal.lacp_rate);
        let differs = self.lacp_rate != goal.lacp_rate;
        if differs && self.has(BondMode::has_lacp) {
            steps.push(rate());
        }
        if self.mode != goal.mode {
            steps.push(BondOption::Mode(goal.mode));
        }
        if differs && goal.has(BondMode::has_lacp) && !self.has(BondMode::has_lacp) {
            steps.push(rate());
        }
        steps
    }

    /// Returns the options to set to get to `goal` at any time, in order, except the primary
    /// member. The mode must be right already.
    pub(super) fn steps(&self, goal: &Options) -> Vec<BondOption> {
        let mut steps = Vec::new();
        if self.arp_targets != goal.arp_targets {
            steps.push(BondOption::ArpTargets(goal.arp_targets.clone()));
        }
        if goal.arp_interval == 0 && self.miimon != goal.miimon {
            steps.push(BondOption::Miimon(goal.miimon));
        }
        // Carrier monitoring has ended ARP monitoring already.
        if self.arp_interval != goal.arp_interval && goal.miimon == 0 {
            steps.push(BondOption::ArpInterval(goal.arp_interval));
        }
        if self.arp_validate != goal.arp_validate && goal.has(BondMode::has_arp) {
            steps.push(BondOption::ArpValidate(goal.arp_validate));
        }
        if self.xmit_hash_policy != goal.xmit_hash_policy {
            steps.push(BondOption::XmitHashPolicy(goal.xmit_hash_policy));
        }
        steps
    }

    /// Returns whether the mode has a feature. An unknown mode has none.
    pub(super) fn has(&self, has: fn(BondMode) -> bool) -> bool {
        let mode = BondMode::NAMES.get(usize::from(self.mode));
        mode.is_some_and(|(mode, _)| has(*mode))
    }

    /// Sets an option as the kernel does (drivers/net/bonding/bond_options.c): carrier and ARP
    /// monitoring exclude each other, and a mode without ARP turns carrier monitoring on.
    pub(super) fn set(&mut self, option: &BondOption) {
        match option {
            BondOption::Mode(mode) => {
                self.mode = *mode;
                self.arp_validate = 0;
                if !self.has(BondMode::has_arp) {
                    self.arp_interval = 0;
                    if self.miimon == 0 {
                        self.miimon = DEFAULT_MIIMON;
                    }
                }
            }
            BondOption::Miimon(interval) => {
                self.miimon = *interval;
                if *interval != 0 && self.arp_interval != 0 {
                    (self.arp_interval, self.arp_validate) = (0, 0);
                }
            }
            BondOption::ArpInterval(interval) => {
                self.arp_interval = *interval;
                if *interval != 0 {
                    self.miimon = 0;
                }
            }
            BondOption::ArpTargets(targets) => self.arp_targets.clone_from(targets),
            BondOption::ArpValidate(validate) => self.arp_validate = *validate,
            BondOption::Primary(primary) => self.primary.clone_from(primary),
            BondOption::LacpRate(rate) => self.lacp_rate = *rate,
            BondOption::XmitHashPolicy(policy) => self.xmit_hash_policy = *policy,
        }
    }
}

/// `BOND_DEFAULT_MIIMON` (include/net/bonding.h).
const DEFAULT_MIIMON: u32 = 100;
