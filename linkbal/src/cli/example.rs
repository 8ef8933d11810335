//! `linkbal example`: the commented configuration, and those for common cases.

use anyhow::Result;

use super::exit::misuse;
use crate::config::{COMMENTED, names_help};

/// Lists the files of the folder `examples`: each name, and its text.
macro_rules! examples {
    ($($name:literal),+ $(,)?) => {
        [$(($name, include_str!(concat!("../../../examples/", $name, ".toml")))),+]
    };
}

/// Least columns of the list: a narrower window wraps by itself.
const MIN_WIDTH: usize = 50;

static EXAMPLES: &[(&str, &str)] = &examples![
    "banks-br",
    "bond-two-providers",
    "dhcp-and-pppoe",
    "failover-only",
    "ipv6-prefix",
    "lte-backup",
    "one-nic-two-providers",
    "only-one-host",
    "pinned-host",
    "ports-per-line",
    "subnet-per-line",
    "three-lines-same-gateway",
    "two-lines-30-70",
];

/// Returns the example of that name, or the commented configuration without one.
///
/// # Errors
///
/// If there is none of that name.
pub(super) fn text(name: Option<&str>) -> Result<&'static str> {
    let Some(name) = name else { return Ok(COMMENTED) };
    let wanted = name.strip_suffix(".toml").unwrap_or(name);
    let found = EXAMPLES.iter().find(|(known, _)| *known == wanted);
    let Some((_, text)) = found else {
        let names: Vec<&str> = EXAMPLES.iter().map(|(name, _)| *name).collect();
        let help = names_help(wanted, "the examples", &names);
        return Err(misuse(format!("there is no example {name:?}: {help}")));
    };
    Ok(text)
}

/// Returns the names of all examples, each with its first comment, in lines of at most `width` columns.
pub(super) fn list(width: usize) -> String {
    const INDENT: &str = "                          ";
    let row = |(name, text): &(&str, &str)| {
        let about = text.lines().next().unwrap_or_default().trim_start_matches("# ");
        let options = textwrap::Options::new(width.max(MIN_WIDTH)).subsequent_indent(INDENT);
        let name = format!("{name:width$}", width = INDENT.len());
        textwrap::fill(about, options.initial_indent(&name)) + "\n"
    };
    EXAMPLES.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn all_files_of_the_folder_are_examples() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let files = fs::read_dir(folder).expect("the folder of the examples");
        let names = files.map(|file| file.expect("a file").file_name().into_string());
        let mut names: Vec<String> = names.map(|name| name.expect("a text")).collect();
        // In a folder are files of several programs.
        names.retain(|name| name.ends_with(".toml"));
        names.sort();
        let known: Vec<String> = EXAMPLES.iter().map(|(name, _)| format!("{name}.toml")).collect();
        assert_eq!(known, names);
        assert_eq!(list(1000).lines().count(), known.len());
        let narrow = list(60);
        assert!(narrow.lines().all(|line| line.chars().count() <= 60), "{narrow}");
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&narrow), words(&list(1000)));
    }

    #[test]
    fn an_unknown_example_names_the_nearest() {
        assert_eq!(text(None).expect("the commented one"), COMMENTED);
        assert!(text(Some("lte-backup.toml")).expect("an example").starts_with("# For "));
        let error = text(Some("lte_backup")).expect_err("none").to_string();
        assert!(error.contains("did you mean \"lte-backup\"?"), "{error}");
    }
}
