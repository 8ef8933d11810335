//! `[hooks]`: programs of the user that are told of changes.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use toml::Spanned;

use crate::config::{
    Hooks,
    diagnostics::problem::{Fault, Span},
    keys,
    parse::{
        reader::{List, Section},
        value,
    },
};

const HELP: &str = "write a program with its absolute path and its arguments, each a text of its \
                    own, like [\"/usr/local/bin/notify\", \"admin\"]";

/// Reads `[hooks]`.
pub(in crate::config) fn read(root: &Section) -> Hooks {
    let Some(section) = root.section(&keys::root::HOOKS, "write it as the section [hooks]") else {
        return Hooks::default();
    };
    let section = section.knowing(&keys::hooks::KEYS);
    Hooks {
        on_change: section
            .list(&keys::hooks::ON_CHANGE, HELP, argument)
            .and_then(|list| command(&section, list)),
    }
}

fn argument(value: &toml::de::DeValue<'_>) -> Result<String, Fault> {
    let text = value::text(value).map_err(|fault| Fault::new(fault.message, HELP))?;
    if text.contains('\0') {
        return Err(Fault::new("a text with a null byte cannot be an argument", HELP));
    }
    Ok(text.to_owned())
}

fn command(section: &Section, list: List<String>) -> Option<Vec<String>> {
    let List { items, complete, span } = list;
    match items.first() {
        None if complete => {
            let help = "write a program, or leave `on_change` out for none";
            section.report(&keys::hooks::ON_CHANGE, span, Fault::new("the list is empty", help));
        }
        Some(program) if complete => check_program(section, program.get_ref(), program.span()),
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
