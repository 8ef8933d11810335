//! Completions of shells and man pages, from the declarations of the command line.

use std::{fs, io, path::Path};

use anyhow::{Context as _, Result};
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Cli;

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
    let page = Man::new(command).section("8").manual("System administration");
    let mut text = Vec::new();
    page.render(&mut text)?;
    Ok((page.get_filename(), text))
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
            assert!(page.contains("Examples:"), "{name} has no examples");
            assert!(completions.contains(&format!("linkbal,{}", verb.get_name())), "{name}");
        }
        let (_, first) = pages.iter().find(|(name, _)| name == "linkbal.8").expect("a page");
        assert!(String::from_utf8_lossy(first).contains("Exit codes"));
    }
}
