//! The tools whose configurations are translated, and how their texts look.

/// A tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Tool {
    /// OpenWrt's /etc/config/mwan3
    Mwan3,
    /// VyOS with `load-balancing wan`, as config.boot or as `set` commands
    Vyos,
    /// EdgeOS with `load-balance group`, as config.boot or as `set` commands
    Edgeos,
    /// A shell script with `ip route`, `ip rule` and iptables marks
    Script,
}

impl Tool {
    /// All of them.
    pub const ALL: [Tool; 4] = [Tool::Mwan3, Tool::Vyos, Tool::Edgeos, Tool::Script];

    /// Returns the word for it on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Tool::Mwan3 => "mwan3",
            Tool::Vyos => "vyos",
            Tool::Edgeos => "edgeos",
            Tool::Script => "script",
        }
    }

    /// Returns the name of the tool in a sentence.
    pub fn tool(self) -> &'static str {
        match self {
            Tool::Mwan3 => "mwan3",
            Tool::Vyos => "VyOS",
            Tool::Edgeos => "EdgeOS",
            Tool::Script => "a balancing script",
        }
    }

    /// Returns `missing`, with what a refused text looks like instead.
    pub(super) fn explain(self, text: &str, missing: &str) -> String {
        if let Some(told) = of_uci(text) {
            return format!("{missing}; {told}");
        }
        let other = Tool::ALL.into_iter().find(|kind| *kind != self && kind.is_in(text));
        match other {
            Some(other) => format!(
                "{missing}; it looks like {}: try `linkbal import {}`",
                other.tool(),
                other.word()
            ),
            None => format!("{missing}; {}", appearance(text)),
        }
    }

    /// Returns whether a text has the tool's marks.
    fn is_in(self, text: &str) -> bool {
        let any = |marks: &[&str]| {
            text.lines().any(|line| marks.iter().any(|mark| line.trim_start().starts_with(mark)))
        };
        match self {
            Tool::Mwan3 => any(&["config interface", "config member", "config policy"]),
            Tool::Vyos => {
                any(&["set load-balancing", "load-balancing {"])
                    || text.contains("interface-health")
            }
            Tool::Edgeos => {
                any(&["set load-balance ", "load-balance {"]) || text.contains("lb-group")
            }
            Tool::Script => any(&["ip route", "ip rule", "iptables", "route add", "#!/"]),
        }
    }
}

/// Returns what a text without marks of any tool looks like.
fn appearance(text: &str) -> String {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty());
    let Some(first) = first else { return "it is empty".into() };
    if let Some(told) = of_uci(text) {
        return told.into();
    }
    if text.contains("[uplink.") {
        return "it looks like a configuration of linkbal".into();
    }
    if text.contains('\0') {
        return "it looks like no text".into();
    }
    format!("it begins with \"{}\"", super::note::quoted(first))
}

/// Returns what to take instead of mwan3's settings in the form of `uci show` or of its commands.
fn of_uci(text: &str) -> Option<&'static str> {
    let shown = |line: &str| line.trim_start().starts_with("mwan3.");
    let set = |line: &str| line.contains("uci ") && line.contains(" mwan3.");
    if text.lines().any(set) {
        return Some(
            "it has commands of `uci` for mwan3: take the file /etc/config/mwan3 that they make, or the \
             output of `uci export mwan3`, with `linkbal import mwan3`",
        );
    }
    text.lines().any(shown).then_some(
        "it looks like the output of `uci show`: take the file /etc/config/mwan3, or the output of \
         `uci export mwan3`, with `linkbal import mwan3`",
    )
}
