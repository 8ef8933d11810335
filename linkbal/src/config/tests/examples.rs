//! The files of the folder `examples`, and the rules in the comments of the default file.

use super::*;

#[test]
fn all_examples_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let folders = [folder.join("ha"), folder];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).expect("a folder"));
    let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    assert!(paths.len() >= 10, "{paths:?}");
    for path in paths {
        let Parsed { warnings, .. } = Config::load(&path).unwrap_or_else(|error| panic!("{error}"));
        assert!(warnings.problems().is_empty(), "{warnings}");
        let text = fs::read_to_string(&path).expect("it was read before");
        assert!(text.starts_with("# For "), "{} does not say whom it is for", path.display());
    }
}

/// Checks the rules in indented comments of the default file, which has none by default.
#[test]
fn rules_of_the_default_file_are_valid() {
    let shown: Vec<&str> =
        DEFAULT_FILE.lines().filter_map(|line| line.strip_prefix("#    ")).collect();
    let text = format!("{DEFAULT_FILE}\n{}\n", shown.join("\n"));
    let one_prefix = |_: &Path| Ok("203.0.113.0/24\n".to_owned());
    let parsed = Config::parse_with(&text, Path::new("linkbal.toml"), &one_prefix);
    let Parsed { config, warnings } = parsed.unwrap_or_else(|error| panic!("{error}"));
    assert!(warnings.problems().is_empty(), "{warnings}");
    assert_eq!(config.rules.len(), shown.iter().filter(|line| **line == "[[rule]]").count());
    assert!(config.rules.len() > 3, "{:#?}", config.rules);
}

/// Checks that the guide in Portuguese, which is copied from as it is, has no mistakes.
#[test]
fn configurations_of_the_portuguese_guide_are_valid() {
    let guide = include_str!("../../../../docs/pt-BR.md");
    let blocks = guide.split("```toml\n").skip(1);
    let texts: Vec<&str> = blocks.filter_map(|block| block.split("```").next()).collect();
    assert_eq!(texts.len(), 9, "a case is missing");
    for text in texts {
        let nothing = |_: &Path| Ok(String::new());
        let parsed = Config::parse_with(text, Path::new("pt-BR.md"), &nothing);
        let Parsed { warnings, .. } = parsed.unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert!(warnings.problems().is_empty(), "{warnings}\n{text}");
    }
}
