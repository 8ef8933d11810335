//! Completions of shells and man pages, from the declarations of the command line.

use std::{fs, io, path::Path};

use anyhow::{Context as _, Result};
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use super::{Cli, exit::Exit};

/// The files of an installed gateway, and what they are for.
const FILES: [(&str, &str); 5] = [
    ("/etc/linkbal/linkbal.toml", "The configuration; `linkbal example` prints a commented one."),
    ("/run/linkbal/linkbal.sock", "The socket of the API, for root and the group of the service."),
    ("/var/lib/linkbal/", "What outlives a reboot: events, history, the last good configuration."),
    ("/sys/fs/bpf/linkbal/", "The pinned maps and links of the datapath."),
    (
        "/run/linkbal/netns-COOKIE/",
        "Socket and state of a gateway in another network namespace, whose pins are in \
         /sys/fs/bpf/linkbal/netns-COOKIE/.",
    ),
];

/// Returns the completions for a shell.
pub(super) fn completions(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "linkbal", &mut text);
    text
}

/// Writes a man page for linkbal and for each of its verbs to a folder.
///
/// # Errors
///
/// If a file cannot be written.
pub(super) fn write(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    for (name, page) in pages()? {
        let path = folder.join(name);
        fs::write(&path, page).with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(())
}

/// Returns all man pages, by the names of their files.
fn pages() -> Result<Vec<(String, Vec<u8>)>> {
    let mut linkbal = Cli::command().disable_help_subcommand(true);
    linkbal.build();
    let verbs = linkbal.get_subcommands().filter(|verb| !verb.is_hide_set());
    let verbs = verbs.map(|verb| {
        let name = format!("linkbal-{}", verb.get_name());
        page(verb.clone().display_name(name.clone()).name(name))
    });
    [page(linkbal.clone())].into_iter().chain(verbs).collect::<io::Result<_>>().context("no page")
}

fn page(command: Command) -> io::Result<(String, Vec<u8>)> {
    let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let has_verbs = command.has_subcommands();
    let page = Man::new(command.after_help("")).section("8").manual("System administration");
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    if has_verbs {
        page.render_subcommands_section(&mut text)?;
    }
    let examples = examples.strip_prefix("Examples:\n").map(example_section);
    for section in examples.into_iter().chain([exit_status(), files()]) {
        section.to_writer(&mut text)?;
    }
    Ok((page.get_filename(), text))
}

/// Returns the examples as they are, in lines.
fn example_section(examples: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXAMPLES"]).control("nf", []);
    examples.lines().for_each(|line| {
        roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
    });
    roff.control("fi", []);
    roff
}

fn exit_status() -> Roff {
    let codes = Exit::ALL.map(|exit| (exit.code().to_string(), exit.meaning()));
    list("EXIT STATUS", codes.iter().map(|(code, meaning)| (&**code, *meaning)))
}

fn files() -> Roff {
    list("FILES", FILES.into_iter())
}

fn list<'a>(title: &str, entries: impl Iterator<Item = (&'a str, &'a str)>) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    for (term, meaning) in entries {
        roff.control("TP", []).text([bold(term)]).text([roman(meaning)]);
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_a_page_with_examples_and_a_completion() {
        let pages = pages().expect("pages");
        let completions = String::from_utf8(completions(Shell::Bash)).expect("a text");
        for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let name = format!("linkbal-{}.8", verb.get_name());
            let (_, page) = pages.iter().find(|(known, _)| *known == name).expect("a page");
            let page = String::from_utf8_lossy(page);
            for section in [".SH EXAMPLES", ".SH \"EXIT STATUS\"", ".SH FILES"] {
                assert!(page.contains(section), "{name} has no {section}: {page}");
            }
            assert!(!page.contains("Examples:"), "{name}");
            assert!(completions.contains(&format!("linkbal,{}", verb.get_name())), "{name}");
        }
        let (_, first) = pages.iter().find(|(name, _)| name == "linkbal.8").expect("a page");
        assert!(String::from_utf8_lossy(first).contains(".SH SUBCOMMANDS"));
    }
}
