//! `[hooks]`.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn parse(line: &str) -> Result<Parsed, ConfigError> {
    let text = format!("{SMALLEST}[hooks]\n{line}\n");
    Config::parse_with(&text, Path::new("test"), &|_: &Path| Err(io::ErrorKind::Unsupported.into()))
}

fn problem(line: &str) -> String {
    let error = parse(line).expect_err("a problem");
    error.problems().iter().map(|problem| problem.message.clone()).collect()
}

fn warnings(line: &str) -> Vec<String> {
    let parsed = parse(line).unwrap_or_else(|error| panic!("{error}"));
    parsed.warnings.problems().iter().map(|problem| problem.message.clone()).collect()
}

#[test]
fn a_command_is_a_list_of_texts() {
    let parsed = parse("on_change = [\"/bin/sh\", \"-c\", \"true\"]").expect("a command");
    let command = ["/bin/sh", "-c", "true"].map(str::to_owned);
    assert_eq!(parsed.config.hooks.on_change.as_deref(), Some(&command[..]));
    assert!(parsed.warnings.problems().is_empty(), "{}", parsed.warnings);
    assert_eq!(parse("").expect("none").config.hooks, Hooks::default());
}

#[test]
fn what_is_no_command_is_a_problem() {
    assert!(problem("on_change = \"/bin/sh\"").contains("expected a list"));
    assert!(problem("on_change = []").contains("the list is empty"));
    assert!(problem("on_change = [\"notify\"]").contains("\"notify\" is not an absolute path"));
    assert!(problem("on_change = [\"/bin/sh\", 5]").contains("expected a text"));
    assert!(problem("on_change = [[\"/bin/sh\"]]").contains("expected a text"));
    assert!(problem("on_change = [\"/bin/sh\", \"\\u0000\"]").contains("null byte"));
    assert!(problem("on_chnage = [\"/bin/sh\"]").contains("unknown key"));
}

#[test]
fn a_program_that_cannot_be_run_now_is_a_warning() {
    assert!(warnings("on_change = [\"/nonexistent/hook\"]")[0].contains("cannot be run"));
    assert!(warnings("on_change = [\"/tmp\"]")[0].contains("is not a file"));
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).expect("its mode");
    let line = format!("on_change = [{:?}]", file.path());
    assert!(warnings(&line)[0].contains("is not executable"));
}
