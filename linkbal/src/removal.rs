//! Commands that take away what balanced before linkbal, in an order in which packets never lack a way:
//! linkbal takes over while the old routes and rules still stand, and these go one after the other.

// Input from outside must not stop the program.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

/// The command that stops mwan3, for good. It is OpenWrt's, which has no systemd.
pub const STOP_MWAN3: &str = "service mwan3 stop; service mwan3 disable";

/// A part of the removal. Earlier ones come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The configuration is tried.
    Check,
    /// Services, jobs and processes end that would set the old things up again.
    Stop,
    /// linkbal takes over.
    Start,
    /// ip rules go.
    Rules,
    /// Firewall rules that mark packets go.
    Marks,
    /// Masquerading goes.
    Nat,
    /// Routes and tables go that no rule looks up any more.
    Routes,
    /// A last look is taken.
    Look,
}

impl Stage {
    /// All of them, in their order.
    pub const ALL: [Stage; 8] = [
        Stage::Check,
        Stage::Stop,
        Stage::Start,
        Stage::Rules,
        Stage::Marks,
        Stage::Nat,
        Stage::Routes,
        Stage::Look,
    ];

    /// Returns the heading of its commands.
    pub const fn heading(self) -> &'static str {
        match self {
            Stage::Check => {
                "Look, before anything changes; what conflicts and is named below goes in its turn"
            }
            Stage::Stop => "Stop what would set the old rules up again",
            Stage::Start => "Let linkbal take over, now and at each boot",
            Stage::Rules => "Delete the ip rules: linkbal has its own",
            Stage::Marks => "Delete the marks, which no rule asks for any more",
            Stage::Nat => "Delete the masquerading: linkbal translates what leaves by its uplinks",
            Stage::Routes => "Delete the routes that nothing looks up any more",
            Stage::Look => "See what is left",
        }
    }

    /// Returns what such a step takes away, in words.
    pub const fn left_over(self) -> &'static str {
        match self {
            Stage::Rules => "an ip rule of an old script is left",
            Stage::Marks => "a firewall rule that marks packets for an old script is left",
            Stage::Nat => "a rule that masquerades is left of an old script",
            Stage::Routes => "routes of an old script are left",
            Stage::Check | Stage::Stop | Stage::Start | Stage::Look => "an old service is left",
        }
    }

    /// Returns the commands that belong to every removal.
    const fn always(self, on_openwrt: bool) -> &'static [&'static str] {
        match self {
            Stage::Start if on_openwrt => &["service linkbal enable; service linkbal start"],
            Stage::Check => &["linkbal check --machine", "linkbal plan"],
            Stage::Start => &["systemctl enable --now linkbal"],
            Stage::Look => &["linkbal doctor"],
            _ => &[],
        }
    }
}

/// A command of the removal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    /// The part that it belongs to.
    pub stage: Stage,
    /// The thing that was found, in words; may be empty.
    pub what: String,
    /// The command for a shell; empty if nothing but a person can do it.
    pub command: String,
}

impl Step {
    /// Creates a step.
    pub fn new(stage: Stage, what: impl Into<String>, command: impl Into<String>) -> Step {
        Step { stage, what: what.into(), command: command.into() }
    }
}

/// Returns the whole removal as lines for a shell, with headings as comments; empty without steps.
/// `options` go to the commands that look at the configuration.
pub fn script(steps: &[Step], options: &str) -> String {
    let mut text = String::new();
    if steps.is_empty() {
        return text;
    }
    let on_openwrt = steps.iter().any(|step| step.command == STOP_MWAN3);
    let mut number = 0_u32;
    for stage in Stage::ALL {
        let options = if stage == Stage::Check { options } else { "" };
        let always = stage.always(on_openwrt).iter().map(|command| format!("{command}{options}"));
        let own = steps.iter().filter(|step| step.stage == stage).map(line);
        let lines: Vec<String> = always.chain(own).collect();
        if lines.is_empty() {
            continue;
        }
        number = number.saturating_add(1);
        text.push_str(&format!("# {number}. {}\n", stage.heading()));
        lines.iter().for_each(|line| text.push_str(&format!("{line}\n")));
    }
    text
}

fn line(step: &Step) -> String {
    let what = step.what.replace(char::is_control, " ");
    match (step.command.is_empty(), what.is_empty()) {
        (true, _) => format!("#   {what}"),
        (false, true) => step.command.clone(),
        (false, false) => format!("{}  # {what}", step.command),
    }
}

/// Returns a text as a single word of a shell.
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linkbal_takes_over_before_anything_is_deleted() {
        let steps = [
            Step::new(Stage::Routes, "", "ip route flush table 101"),
            Step::new(Stage::Rules, "of a\nscript", "ip rule delete pref 9"),
            Step::new(Stage::Stop, "start it\nno more", ""),
        ];
        let text = "\
# 1. Look, before anything changes; what conflicts and is named below goes in its turn
linkbal check --machine
linkbal plan
# 2. Stop what would set the old rules up again
#   start it no more
# 3. Let linkbal take over, now and at each boot
systemctl enable --now linkbal
# 4. Delete the ip rules: linkbal has its own
ip rule delete pref 9  # of a script
# 5. Delete the routes that nothing looks up any more
ip route flush table 101
# 6. See what is left
linkbal doctor
";
        assert_eq!(script(&steps, ""), text);
        assert_eq!(script(&[], ""), "");
        let openwrt = script(&[Step::new(Stage::Stop, "mwan3", STOP_MWAN3)], "");
        assert!(openwrt.contains("\nservice linkbal enable; service linkbal start\n"), "{openwrt}");
        assert!(!openwrt.contains("systemctl"), "{openwrt}");
        let other = script(&steps, " --config x.toml");
        assert!(
            other.contains(
                "\nlinkbal check --machine --config x.toml\nlinkbal plan --config x.toml\n"
            )
        );
        assert!(other.contains("\nsystemctl enable --now linkbal\n"), "{other}");
    }

    #[test]
    fn names_are_words_of_a_shell() {
        assert_eq!(shell_word("/etc/rc.local"), "/etc/rc.local");
        assert_eq!(shell_word("a b'c"), r"'a b'\''c'");
        assert_eq!(shell_word(""), "''");
    }
}
