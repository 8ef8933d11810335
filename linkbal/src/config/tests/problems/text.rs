//! Texts that are not TOML, files that are not text, and how problems are shown.

use super::*;

#[test]
fn broken_syntax() {
    let quotes = "write texts in double quotes, like \"eth0\", and numbers without spaces or units";
    let line =
        "a line is `key = value`, a section begins with `[name]`, texts are in double quotes";
    expect(
        "[lan\ninterfaces = [\"br-lan\"]\n[uplink.fiber]\ninterface = eth0\nweight =\ntier = 3 0\n\
         [uplink.fiber]\n[uplink.b]\nweight = = 3\ntier = \"1\nprobe = {} }\n",
        &[
            "1:5 unclosed table, expected `]` | add what closes it",
            "4:13 neither a text in quotes nor a number | write it in double quotes: \"eth0\"",
            &format!("5:9 the value is missing | {quotes}"),
            &format!("6:8 neither a text in quotes nor a number | {quotes}"),
            "7:9 the section [uplink.fiber] is there twice | join the two, or give this one another \
             name",
            &format!("9:10 extra `=`, expected nothing | {line}"),
            "10:10 invalid basic string, expected `\"` | \
             write a text on one line, with a double quote on each side",
            &format!("11:12 unexpected key or value, expected newline, `#` | {line}"),
        ],
    );
}

/// Checks that a list that is never closed is one problem, not one for each line after it.
#[test]
fn unclosed_lists() {
    expect(
        "[lan]\ninterfaces = [\"br-lan\"\n[uplink.fiber]\ninterface = eth0\nweight =\ntier = 3 0\n",
        &["3:1 missing comma between array elements, expected `,` | \
           write a comma between the items, and `]` after the last"],
    );
    expect_after_smallest(
        "probe = { interval = \"1s\"\nweight = 3\ntier = 1\n",
        &["6:1 missing comma between key-value pairs, expected `,` | \
           write a comma between the keys, and `}` after the last value"],
    );
}

/// Checks that values in a broken file are not guessed.
#[test]
fn broken_syntax_hides_other_problems() {
    let problems = problems("[lan]\ninterfaces = []\n[uplink.fiber]\nweight = = 7\ntier = 99\n");
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    assert!(problem.starts_with("4:10 extra `=`"), "{problem}");
}

#[test]
fn one_problem_as_it_is_shown() {
    let text = SMALLEST.replace("interface =", "weight = \"30\"\ninterface =");
    let error = Config::parse(&text, "/etc/linkbal.toml").expect_err("a text for a number");
    let expected = "1 problem in /etc/linkbal.toml

  × `uplink.fiber.weight`: expected a whole number, found a text
   ╭─[/etc/linkbal.toml:4:10]
 3 │ [uplink.fiber]
 4 │ weight = \"30\"
   ·          ────
 5 │ interface = \"eth0\"
   ╰────
  help: write 30, without quotes
";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn both_places_are_shown() {
    let text = SMALLEST.replace("br-lan", "eth0");
    let error = Config::parse(&text, "test.toml").expect_err("one interface for two jobs");
    let shown = error.to_string();
    assert!(shown.contains("of the LAN here"), "{shown}");
}

#[test]
fn what_is_to_be_copied_is_not_broken_and_lines_are_as_wide_as_wanted() {
    let text = format!("{SMALLEST}[hooks]\nscript = \"/usr/local/bin/notify-me\"\n");
    let error = Config::parse(&text, "test.toml").expect_err("no key of hooks");
    for width in [40, 60, 80, 120] {
        let shown = format!("{error:width$}");
        assert!(shown.contains("[\"/usr/local/bin/notify\"]"), "{shown}");
        let wide = shown.lines().filter(|line| line.chars().count() > width).count();
        assert_eq!(wide, 0, "{width}: {shown}");
    }
}

#[test]
fn the_same_problem_is_shown_once() {
    // The base of all uplinks, which each of them takes over.
    let text =
        format!("{SMALLEST}[uplink.b]\ninterface = \"eth1\"\n[probe]\ntargets = [\"x y z\"]\n");
    let found = problems(&text);
    assert_eq!(found.len(), 1, "{found:#?}");
}

#[test]
fn unreadable_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("linkbal.toml");
    let load = |path: &Path| Config::load(path).expect_err("an unreadable file");

    let missing = load(&path);
    let [problem] = missing.problems() else { panic!("{missing}") };
    let expected = format!("failed to read configuration {}: No such file", path.display());
    assert!(problem.message.starts_with(&expected), "{missing}");
    let example = format!("create it: linkbal example > {}, and", path.display());
    assert!(problem.help.starts_with(&example), "{missing}");
    let nowhere = load(&directory.path().join("linkbal/linkbal.toml"));
    let folder =
        format!("create it: mkdir -p {}/linkbal; linkbal example >", directory.path().display());
    assert!(nowhere.problems()[0].help.starts_with(&folder), "{nowhere}");
    assert_eq!(problem.location, None);

    let is_directory = load(directory.path());
    assert_eq!(is_directory.problems()[0].help, "name the file in the directory");

    fs::write(&path, b"[lan]\ninterfaces = [\"\xff\"]\n").expect("a file");
    let binary = load(&path);
    let [problem] = binary.problems() else { panic!("{binary}") };
    assert_eq!(problem.message, "this byte is not UTF-8 text");
    assert_eq!(problem.help, "save the file with the encoding UTF-8");
    assert_eq!(problem.location, Some(Location { span: 21..24, line: 2, column: 16 }));
}

/// Checks that problems are in the order of the file, not that in which sections are read and
/// compared.
#[test]
fn problems_come_in_the_order_of_the_file() {
    let problems = problems(
        "[kernel]\ntable_base = 0\n[uplink.b]\ninterface = \"eth0\"\nweight = 0\n\
         [uplink.a]\ninterface = \"eth0\"\ntier = 0\n[probe]\nhold = 5\n\
         [lan]\ninterfaces = [\"eth0\", \"eth 1\"]\nname = 1\n",
    );
    let places: Vec<_> = problems.iter().filter_map(|problem| problem.split(' ').next()).collect();
    assert_eq!(
        places,
        ["2:14", "4:13", "5:10", "7:13", "7:13", "8:8", "10:8", "12:23", "13:1"],
        "{problems:#?}"
    );
}
