//! Every kind of problem: where it is found, what it says and what it advises.

use super::*;

/// `line:column message | help` of every problem.
fn problems(text: &str) -> Vec<String> {
    let error = Config::parse(text, "test.toml").expect_err("a file with problems");
    let shown = error.to_string();
    error
        .problems()
        .iter()
        .map(|problem| {
            let at = problem.location.as_ref().expect("a place");
            let place = format!("{}:{}", at.line, at.column);
            assert!(shown.contains(&format!("[test.toml:{place}]")), "{place} is not in:\n{shown}");
            format!("{place} {} | {}", problem.message, problem.help)
        })
        .collect()
}

#[track_caller]
fn expect(text: &str, expected: &[&str]) {
    assert_eq!(problems(text), expected, "in:\n{text}");
}

/// Expects the problems of `lines`, which begin at line 5 in the section of an uplink.
#[track_caller]
fn expect_after_smallest(lines: &str, expected: &[&str]) {
    expect(&format!("{SMALLEST}{lines}"), expected);
}
