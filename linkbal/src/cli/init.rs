//! `linkbal init`: a configuration for this machine, proposed by what is there.

mod ask;

use std::{
    io::{IsTerminal as _, stdin, stdout},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Result, anyhow};

use super::{exit::Exit, new_file, runtime, stderr};
use crate::{
    config::{Config, DEFAULT_PATH as DEFAULT_CONFIG},
    engine::{doctor::leftovers, kernel::conflict::remains},
    import::Tool,
    init::{Choice, Facts, Found, Proposal, propose},
    removal::{Step, script, shell_word},
    sys,
    words::count,
};

/// File beside the default one, where that exists.
const BESIDE: &str = "/etc/linkbal/linkbal.toml.new";

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct InitArgs {
    /// Ask nothing, and write the proposal to /etc/linkbal/linkbal.toml, which must not exist yet,
    /// or be the unedited example that linkbal came with
    #[arg(long, short)]
    yes: bool,
    /// File to write, which must not exist [default: standard output without --yes]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Looks at the machine, asks on a terminal, and prints or writes a configuration.
///
/// # Errors
///
/// If the kernel does not tell what is there, or the file exists or cannot be written.
pub(super) fn init(arguments: &InitArgs) -> Result<ExitCode> {
    let InitArgs { yes, output } = arguments;
    let default = Path::new(DEFAULT_CONFIG);
    let path = output.as_deref().or(yes.then_some(default));
    path.map_or(Ok(()), new_file::check)?;
    let facts = runtime()?.block_on(sys::init::observe())?;
    let asks = !yes && stdin().is_terminal() && stdout().is_terminal();
    let choice = if asks { ask::choice(&facts)? } else { Choice::default() };
    let proposal = propose(&facts, &choice);
    let (text, config) = match proposal.config() {
        Ok(proposed) => proposed,
        Err((text, _)) if proposal.uplinks().next().is_none() => {
            super::print(&text)?;
            stderr::text(format_args!("\n{}{}", not_seen(&facts), others(&facts)));
            stderr::line(format_args!(
                "linkbal: nothing here leads to the internet: nothing was written; connect the lines and \
                 run `linkbal init` again, or write the sections above yourself"
            ));
            return Ok(Exit::Unusable.into());
        }
        Err((text, error)) => {
            return Err(anyhow!(
                "a fault of linkbal: it refuses what it proposes: {error}\n{text}"
            ));
        }
    };
    let path = match path {
        None => {
            super::print(&text)?;
            let free = [default, Path::new(BESIDE)];
            let free = free.into_iter().find(|path| new_file::check(path).is_ok());
            match free.filter(|_| asks) {
                Some(free) if ask::agrees(&format!("\nWrite it to {}?", free.display()))? => {
                    Some(free)
                }
                _ => None,
            }
        }
        some => some,
    };
    path.map_or(Ok(()), |path| new_file::write(path, &text))?;
    stderr::text(format_args!("\n{}", summary(&facts, &proposal, &config, path)));
    Ok(ExitCode::SUCCESS)
}

/// Says what was found and what is next.
fn summary(facts: &Facts, proposal: &Proposal, config: &Config, path: Option<&Path>) -> String {
    let uplinks: Vec<&str> = proposal.uplinks().map(|(name, ..)| name).collect();
    let lan: Vec<&str> = proposal.lan().collect();
    let lan = if lan.is_empty() { "no LAN".into() } else { format!("LAN: {}", lan.join(", ")) };
    let written = match path {
        Some(path) => format!("{} is written", path.display()),
        None => "nothing was written".into(),
    };
    let found = count(uplinks.len(), "uplink");
    let mut text = format!("{found} ({}), {lan}; {written}.\n", uplinks.join(", "));
    if let [_] = uplinks[..] {
        text.push_str(
            "With one line there is nothing to balance yet: the second one is missing.\n",
        );
    }
    if config.lan_interfaces.is_empty() {
        text.push_str("Without a LAN, the connections of this machine alone are balanced.\n");
    }
    text.push_str(&not_seen(facts));
    text.push_str(&others(facts));
    let steps = steps(facts, config);
    let named = match path {
        Some(path) if path != Path::new(DEFAULT_CONFIG) && path != Path::new(BESIDE) => {
            format!(" --config {}", shell_word(&path.to_string_lossy()))
        }
        _ => String::new(),
    };
    let keep = keep(path);
    if !keep.is_empty() {
        text.push_str(&format!("\nTo keep it:\n{keep}"));
    }
    if steps.is_empty() {
        text.push_str(&format!(
            "\nThen look, and start it:\n  linkbal check --machine{named}\n  linkbal plan{named}\n  \
             systemctl enable --now linkbal\n"
        ));
    } else {
        text.push_str(
            "\nSomething else balances here. Once the configuration is as you want it, these commands \
             change over,\none after the other, as root:\n\n",
        );
        text.push_str(&script(&steps, &named));
    }
    text
}

/// Returns the commands that put the proposal in place, if it is not there.
fn keep(path: Option<&Path>) -> String {
    let default = Path::new(DEFAULT_CONFIG);
    let put = format!("  mv {BESIDE} {DEFAULT_CONFIG}\n");
    match path {
        None if new_file::check(default).is_ok() => "  linkbal init --yes\n".into(),
        None => format!("  linkbal init --yes --output {BESIDE}\n{put}"),
        Some(path) if path == Path::new(BESIDE) => put,
        Some(path) if path == default => String::new(),
        Some(path) => {
            let path = shell_word(&path.to_string_lossy());
            format!("  install -m 644 {path} {DEFAULT_CONFIG}\n")
        }
    }
}

/// Returns the steps that take away what balanced before.
fn steps(facts: &Facts, config: &Config) -> Vec<Step> {
    let jobs = facts.jobs.iter().filter(|job| !leftovers::is_read(config, job)).cloned();
    let mut steps = leftovers::steps(&facts.leftovers, &jobs.collect::<Vec<_>>());
    steps.extend(remains::steps(config, &facts.snapshot, &facts.survey));
    steps
}

fn not_seen(facts: &Facts) -> String {
    let each = facts.unseen.iter().map(|what| format!("Not seen: {what}.\n"));
    each.collect()
}

/// Says which configurations of other tools can be translated.
fn others(facts: &Facts) -> String {
    let one = |Found { path, kind, network }: &Found| {
        let network = network.as_ref().map_or(String::new(), |path| format!(" --network {path}"));
        let what = match kind {
            Tool::Script => "looks like a script for several uplinks".into(),
            kind => format!("is a configuration of {}", kind.tool()),
        };
        let word = shell_word(path);
        format!(
            "{path} {what}. To keep its rules and shares, begin with:\n  linkbal import {} {word}{network}\n",
            kind.word()
        )
    };
    facts.found.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proposal_elsewhere_is_to_be_put_in_place() {
        let kept = keep(Some(Path::new("/srv/my linkbal.toml")));
        assert_eq!(kept, "  install -m 644 '/srv/my linkbal.toml' /etc/linkbal/linkbal.toml\n");
        assert_eq!(keep(Some(Path::new(DEFAULT_CONFIG))), "");
        assert!(keep(Some(Path::new(BESIDE))).starts_with("  mv "));
    }
}
