//! `[hooks]`: programs of the user that are told of changes.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use nix::unistd::geteuid;
use toml::Spanned;

use crate::config::{
    Files, Hooks,
    diagnostics::problem::{Fault, Span},
    keys,
    parse::{
        reader::{List, Section},
        value,
    },
    trust::{self, Distrust},
};

const HELP: &str = "write a program with its absolute path and its arguments, each a text of its \
                    own, like [\"/usr/local/bin/notify\", \"admin\"]";

/// Programs that run the first file among their arguments.
const INTERPRETERS: [&str; 12] =
    ["sh", "bash", "dash", "zsh", "ash", "ksh", "python", "python3", "perl", "ruby", "node", "env"];

/// Reads `[hooks]`.
pub(in crate::config) fn read(root: &Section, files: &Files) -> Hooks {
    let Some(section) = root.section(&keys::root::HOOKS, "write it as the section [hooks]") else {
        return Hooks::default();
    };
    let section = section.knowing(&keys::hooks::KEYS);
    Hooks {
        on_change: section
            .list(&keys::hooks::ON_CHANGE, HELP, argument)
            .and_then(|list| command(&section, list, files)),
    }
}

fn argument(value: &toml::de::DeValue<'_>) -> Result<String, Fault> {
    let text = value::text(value).map_err(|fault| Fault::new(fault.message, HELP))?;
    if text.contains('\0') {
        return Err(Fault::new("a text with a null byte cannot be an argument", HELP));
    }
    Ok(text.to_owned())
}

fn command(section: &Section, list: List<String>, files: &Files) -> Option<Vec<String>> {
    let List { items, complete, span } = list;
    match items.first() {
        None if complete => {
            let help = "write a program, or leave `on_change` out for none";
            section.report(&keys::hooks::ON_CHANGE, span, Fault::new("the list is empty", help));
        }
        Some(program) if complete => {
            check_program(section, program.get_ref(), program.span());
            if !is_trusted(section, &items, files) {
                return None;
            }
        }
        _ => {}
    }
    Some(items.into_iter().map(Spanned::into_inner).collect())
}

/// Checks the program. It may be installed later: if it cannot be run now, that is only a warning.
fn check_program(section: &Section, program: &str, at: Span) {
    if !Path::new(program).is_absolute() {
        let message = format!("{program:?} is not an absolute path");
        section.report(&keys::hooks::ON_CHANGE, at, Fault::new(message, HELP));
        return;
    }
    let (problem, help) = match fs::metadata(program) {
        Err(error) => (format!("{program} cannot be run: {error}"), "install it"),
        Ok(found) if !found.is_file() => (format!("{program} is not a file"), "name a program"),
        Ok(found) if found.permissions().mode() & 0o111 == 0 => {
            (format!("{program} is not executable"), "make it so: chmod +x")
        }
        Ok(_) => return,
    };
    section.warn(&keys::hooks::ON_CHANGE, at, Fault::new(problem, help));
}

/// Checks that nobody but root decides what is run: neither by the programs, nor by the file that
/// names them. Where it is not root who reads this, that is only a warning.
///
/// A configuration that was kept goes on without its hook: a gateway without one is better than none.
fn is_trusted(section: &Section, items: &[Spanned<String>], files: &Files) -> bool {
    let report = |at: Span, found: Distrust| {
        let message = format!("hooks run as root, but {}", found.message);
        let fault = Fault::new(message, format!("run `{}`, or remove the hook", found.help));
        match files.itself {
            Some(_) if geteuid().is_root() => section.report(&keys::hooks::ON_CHANGE, at, fault),
            _ => section.warn(&keys::hooks::ON_CHANGE, at, fault),
        }
    };
    let mut distrusted = false;
    for item in programs(items) {
        if let Some(found) = trust::check(Path::new(item.get_ref())) {
            report(item.span(), found);
            distrusted = true;
        }
    }
    let Some(first) = items.first() else { return true };
    if let Some(found) = files.itself.and_then(trust::check) {
        report(first.span(), found);
    }
    !distrusted || files.itself.is_some()
}

/// Returns the words of a command that name what is run: the program, and the script of an
/// interpreter.
fn programs(items: &[Spanned<String>]) -> impl Iterator<Item = &Spanned<String>> {
    let name = |item: &Spanned<String>| {
        let path = Path::new(item.get_ref()).file_name();
        path.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let interpreted = items.first().is_some_and(|program| INTERPRETERS.contains(&&*name(program)));
    let is_file = |item: &&Spanned<String>| {
        let path = Path::new(item.get_ref());
        path.is_absolute() && path.is_file()
    };
    let scripts = items.iter().skip(1).filter(is_file).filter(move |_| interpreted);
    items.iter().take(1).filter(|item| Path::new(item.get_ref()).is_absolute()).chain(scripts)
}
