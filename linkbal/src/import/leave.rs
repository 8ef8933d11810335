//! Steps that take away what a translated configuration has set up, as far as its text says.

use super::tool::Tool;
use crate::removal::{STOP_MWAN3, Stage, Step, shell_word};

/// Places where scripts are started.
const STARTERS: &str =
    "/etc/rc.local /etc/crontab /etc/cron.* /etc/network /etc/systemd/system /var/spool/cron";

/// Returns the steps; `name` is the name of the file, and `own` are those that the text says.
pub(super) fn steps(kind: Tool, name: &str, own: Vec<Step>) -> Vec<Step> {
    match kind {
        Tool::Mwan3 => {
            vec![Step::new(Stage::Stop, "with its rules, marks and tables", STOP_MWAN3)]
        }
        Tool::Vyos => in_configuration("load-balancing wan"),
        Tool::Edgeos => in_configuration("load-balance"),
        Tool::Script => of_script(name, own),
    }
}

fn in_configuration(node: &str) -> Vec<Step> {
    let what = "in configuration mode, before `commit` and `save`";
    vec![Step::new(Stage::Stop, what, format!("delete {node}"))]
}

fn of_script(name: &str, own: Vec<Step>) -> Vec<Step> {
    let what = "where it is started: take those lines out";
    let word = shell_word(name);
    let mut steps = vec![
        Step::new(Stage::Stop, what, format!("grep -rsn {word} {STARTERS}")),
        Step::new(
            Stage::Stop,
            "what runs still, as a loop does: kill PID",
            format!("pgrep -af {word}"),
        ),
    ];
    steps.extend(own);
    steps
}
