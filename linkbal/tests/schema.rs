//! The JSON schema beside the commented configuration: it is what the code declares, and fits what
//! linkbal reads.
//!
//! `LINKBAL_BLESS=1 cargo test -p linkbal --test schema` writes it again.

use std::{env, fs, path::Path};

use jsonschema::Validator;
use linkbal::config::{COMMENTED, Config, schema};
use serde_json::Value;

const SMALLEST: &str = "[lan]\ninterfaces = [\"br-lan\"]\n[uplink.fiber]\ninterface = \"eth0\"\n";

fn validator() -> Validator {
    let schema: Value = serde_json::from_str(&schema::text()).expect("JSON");
    jsonschema::draft7::meta::validate(&schema).expect("a schema");
    jsonschema::validator_for(&schema).expect("a schema")
}

/// Returns the faults that the schema finds in a configuration.
fn faults(validator: &Validator, text: &str) -> Vec<String> {
    let value: toml::Table = toml::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let value = serde_json::to_value(value).expect("JSON");
    validator.iter_errors(&value).map(|error| error.to_string()).collect()
}

#[test]
fn the_file_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("linkbal.schema.json");
    if env::var_os("LINKBAL_BLESS").is_some() {
        fs::write(&path, schema::text()).expect("to write the schema");
        return;
    }
    let text = fs::read_to_string(&path).expect("the schema");
    assert!(text == schema::text(), "linkbal.schema.json is old: run this with LINKBAL_BLESS=1");
    let first = COMMENTED.lines().next().expect("a line");
    assert_eq!(first, "#:schema ./linkbal.schema.json");
}

#[test]
fn all_examples_fit() {
    let validator = validator();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let folders = [folder.join("ha"), folder];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).expect("a folder"));
    let paths = files.map(|file| file.expect("a file").path());
    let examples = paths.filter(|path| path.extension().is_some_and(|is| is == "toml"));
    let examples = examples.map(fs::read_to_string);
    let mut texts: Vec<String> = examples.map(|text| text.expect("a text")).collect();
    assert!(texts.len() >= 10);
    // The default file with what its comments show: defaults of single keys, and rules.
    let shown = COMMENTED.lines().filter_map(|line| line.strip_prefix("#    "));
    texts.push(format!("{COMMENTED}\n{}\n", shown.collect::<Vec<_>>().join("\n")));
    for text in texts {
        assert_eq!(faults(&validator, &text), [""; 0], "{text}");
    }
}

/// Checks single keys: what the schema refuses, linkbal refuses, too.
#[test]
fn what_it_refuses_linkbal_refuses() {
    let validator = validator();
    let cases = [
        ("weight = 10001\n", true),
        ("weight = \"1\"\n", true),
        ("wieght = 1\n", true),
        ("weight = 0x10\n", false),
        ("nat = \"Off\"\n", true),
        ("gateway = { ipv4 = \"192.0.2.1\", ipv5 = \"\" }\n", true),
        ("gateway = { ipv4 = \"192.0.2.1\" }\n", false),
        ("capacity = { down = \"1mbit\" }\n", true),
        ("spillover = 1.5\ncapacity = \"1mbit\"\n", true),
        ("probe = { interval = \"1s\", timeout = \"auto\" }\n", false),
        ("probe = { interval = 1 }\n", true),
        ("probe = { hold = \"0\" }\n", false),
        ("[[rule]]\nmatch = { dport = [80, \"8000-8100\"], protocol = 6 }\n", false),
        ("[[rule]]\nmatch = { dport = \"80,443\" }\n", true),
        ("[[rule]]\nmatch = { vlan = 4095 }\n", true),
        ("[[rule]]\nuse = { fiber = 30 }\n", false),
        ("[[rule]]\nuse = {}\n", true),
        ("[rule]\nuse = \"fiber\"\n", true),
        ("[kernel]\nfwmark_mask = 0x7f000000\nflow_table_size = \"auto\"\n", false),
        ("[kernel]\nflow_table_size = 1\n", true),
        ("[[sticky]]\nby = \"src\"\n", true),
    ];
    for (lines, refused) in cases {
        let text = format!("{SMALLEST}{lines}");
        let found = faults(&validator, &text);
        assert_eq!(!found.is_empty(), refused, "{lines}: {found:?}");
        let read = Config::parse(&text, "test");
        assert_eq!(read.is_err(), refused, "{lines}");
    }
}
