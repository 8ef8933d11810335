//! The tables of keys in the documentation: they are what the code declares.
//!
//! `LINKBAL_BLESS=1 cargo test -p linkbal --test key_table` writes them again.

use std::{env, fs, path::Path};

use linkbal::config::{Config, key_defaults, key_table};

const BEGIN: &str = "<!-- keys: ";
const END: &str = "<!-- end of keys -->\n";

/// Returns a document with each table between its marks as the code has it.
fn with_tables(text: &str) -> String {
    let mut parts = text.split(BEGIN);
    let mut written = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (sections, rest) = part.split_once(" -->\n").expect("a mark with sections");
        let (_, rest) = rest.split_once(END).expect("the end of the keys");
        let table = key_table(&sections.split(' ').collect::<Vec<_>>());
        written += &format!("{BEGIN}{sections} -->\n{table}{END}{rest}");
    }
    written
}

#[test]
fn the_documentation_has_all_keys() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let text = fs::read_to_string(&path).expect("the documentation");
    let wanted = with_tables(&text);
    if env::var_os("LINKBAL_BLESS").is_some() {
        fs::write(&path, &wanted).expect("to write the documentation");
        return;
    }
    assert!(text == wanted, "docs/configuration.md is old: run this with LINKBAL_BLESS=1");
    for section in key_table(&[""]).lines().skip(2) {
        let name = section.split('`').nth(1).expect("a section");
        let marks = text.lines().filter_map(|line| line.strip_prefix(BEGIN));
        let listed = marks.flat_map(|mark| mark.split(' ')).any(|word| word == name);
        assert!(listed, "the keys of [{name}] are in no table");
    }
}

#[test]
fn what_is_said_to_be_the_default_is() {
    let smallest = "[lan]\ninterfaces = [\"br-lan\"]\n[uplink.fiber]\ninterface = \"eth0\"\n";
    let parse =
        |text: &str| Config::parse(text, "test").unwrap_or_else(|error| panic!("{text}{error}"));
    for (section, key, value) in key_defaults() {
        let (before, line) = match section {
            // It is required by `local.balance = false` alone.
            "lan" => continue,
            "uplink.NAME" => ("".to_owned(), format!("{key} = {value}\n")),
            "uplink.NAME.gateway" => ("".to_owned(), format!("gateway = {{ {key} = {value} }}\n")),
            "sticky" => ("[[sticky]]\nports = [443]\n".to_owned(), format!("{key} = {value}\n")),
            "rule" => ("[[rule]]\n".to_owned(), format!("{key} = {value}\n")),
            "rule.sticky" => {
                let other = if key == "group" { "by = \"src\"" } else { "group = false" };
                let before = format!("[[rule]]\n[rule.sticky]\n{other}\n");
                (before, format!("{key} = {value}\n"))
            }
            "bond.NAME" => {
                let bond = "[bond.b]\nmode = \"active-backup\"\nmembers = [\"eth8\"]\n";
                (bond.to_owned(), format!("{key} = {value}\n"))
            }
            "notify.NAME" => {
                let receiver = "[notify.n]\nurl = \"https://example.com/\"\n";
                (receiver.to_owned(), format!("{key} = {value}\n"))
            }
            other => (format!("[{other}]\n"), format!("{key} = {value}\n")),
        };
        let without = parse(&format!("{smallest}{before}"));
        let with = parse(&format!("{smallest}{before}{line}"));
        assert_eq!(with, without, "{section}.{key}");
    }
}
