//! Questions on a terminal; the proposal is the answer of whoever presses Enter.

use std::io::{self, BufRead as _, Write as _};

use anyhow::{Context as _, Result, bail};

use crate::{
    cli::{stderr, terminal_width},
    init::{Choice, Facts, propose},
};

/// Least columns of a list: a narrower window wraps by itself.
const MIN_WIDTH: usize = 50;

/// Asks what the proposal shall be made of.
///
/// # Errors
///
/// If the input ends.
pub(super) fn choice(facts: &Facts) -> Result<Choice> {
    let mut choice = Choice::default();
    let proposal = propose(facts, &choice);
    stderr::line(format_args!("{}", listed(&proposal.interfaces())));
    stderr::line(format_args!(
        "Enter takes what is in brackets, - stands for none, and Ctrl-C ends this without a trace.\n"
    ));
    let mut uplinks: Vec<String> = Vec::new();
    for (_, interface, _) in proposal.uplinks() {
        if !uplinks.iter().any(|known| known == interface) {
            uplinks.push(interface.to_owned());
        }
    }
    let question = "Interfaces that lead to the internet";
    let answer = interfaces(facts, question, &uplinks, &[])?;
    choice.uplinks = answer.filter(|names| *names != uplinks);
    let proposal = propose(facts, &choice);
    let lan: Vec<String> = proposal.lan().map(str::to_owned).collect();
    let uplinks: Vec<String> =
        proposal.uplinks().map(|(_, interface, _)| interface.to_owned()).collect();
    let question = "Interfaces where machines of yours come in";
    let answer = interfaces(facts, question, &lan, &uplinks)?;
    choice.lan = answer.filter(|names| *names != lan);
    let proposal = propose(facts, &choice);
    let uplinks: Vec<(String, u32)> =
        proposal.uplinks().map(|(name, _, weight)| (name.to_owned(), weight)).collect();
    if uplinks.len() > 1 {
        stderr::line(format_args!(
            "Shares of new connections: any numbers, like the Mbit/s of each line."
        ));
        for (name, weight) in uplinks {
            let answer = number(&format!("Weight of {name}"), weight)?;
            if answer != weight {
                choice.weights.insert(name, answer);
            }
        }
    }
    stderr::line(format_args!(""));
    Ok(choice)
}

/// Folds the list of interfaces to the terminal.
fn listed(text: &str) -> String {
    const INDENT: &str = "                 ";
    let options = textwrap::Options::new(terminal_width().max(MIN_WIDTH)).subsequent_indent(INDENT);
    text.lines().map(|line| textwrap::fill(line, &options) + "\n").collect()
}

/// Asks for yes or no; no is the default.
///
/// # Errors
///
/// If the input ends.
pub(super) fn agrees(question: &str) -> Result<bool> {
    let answer = line(&format!("{question} [y/N]: "))?;
    Ok(matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Asks for names of interfaces, none of which is `taken`; `None` is the default.
fn interfaces(
    facts: &Facts,
    question: &str,
    default: &[String],
    taken: &[String],
) -> Result<Option<Vec<String>>> {
    let shown = if default.is_empty() { "-".to_owned() } else { default.join(" ") };
    let there =
        || facts.snapshot.links.values().map(|link| &*link.name).filter(|name| *name != "lo");
    loop {
        let answer = line(&format!("{question} [{shown}]: "))?;
        if answer.is_empty() {
            return Ok(None);
        }
        if answer == "-" {
            return Ok(Some(Vec::new()));
        }
        let words = answer.split(|c: char| c == ',' || c.is_whitespace());
        let names: Vec<String> = words.filter(|word| !word.is_empty()).map(str::to_owned).collect();
        if let Some(name) = names.iter().find(|name| !there().any(|known| known == **name)) {
            let known: Vec<&str> = there().collect();
            stderr::line(format_args!(
                "There is no interface {name:?}; there are: {}",
                known.join(" ")
            ));
        } else if let Some(name) = names.iter().find(|name| taken.contains(name)) {
            stderr::line(format_args!(
                "{name} leads to the internet already; a VLAN on it can be of the LAN."
            ));
        } else {
            return Ok(Some(names));
        }
    }
}

fn number(question: &str, default: u32) -> Result<u32> {
    loop {
        let answer = line(&format!("{question} [{default}]: "))?;
        match answer.parse() {
            Ok(number @ 1..=10_000) => return Ok(number),
            _ if answer.is_empty() => return Ok(default),
            _ => stderr::line(format_args!("Write a number from 1 to 10000.")),
        }
    }
}

/// Asks a question, and returns the line that comes.
fn line(question: &str) -> Result<String> {
    let mut terminal = io::stderr();
    let asked = write!(terminal, "{question}").and_then(|()| terminal.flush());
    asked.context("failed to ask")?;
    let mut answer = String::new();
    if io::stdin().lock().read_line(&mut answer).context("failed to read the answer")? == 0 {
        stderr::line(format_args!(""));
        bail!("the answers ended: nothing was written");
    }
    Ok(answer.trim().to_owned())
}
