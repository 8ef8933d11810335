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

/// Writes a configuration with a hook, and returns its path and that of the hook.
fn with_hook(folder: &Path) -> [std::path::PathBuf; 2] {
    let [config, hook] = ["linkbal.toml", "hook"].map(|name| folder.join(name));
    fs::write(&hook, "#!/bin/sh\n").expect("a hook");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("its mode");
    let text = format!("{SMALLEST}[hooks]\non_change = [{hook:?}]\n");
    fs::write(&config, text).expect("a configuration");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).expect("its mode");
    [config, hook]
}

/// Checks that what others can change is not run as root; another user is only warned.
#[test]
fn nobody_else_decides_what_is_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let [config, hook] = with_hook(folder.path());
    let root = nix::unistd::geteuid().is_root();
    let told = || match Config::load(&config) {
        Ok(Parsed { config, warnings }) => {
            assert!(config.hooks.on_change.is_some());
            assert!(!root || warnings.problems().is_empty(), "{warnings}");
            warnings.problems().to_vec()
        }
        Err(error) => {
            assert!(root, "{error}");
            error.problems().to_vec()
        }
    };
    assert_eq!(told(), []);
    for path in [&config, &hook, &folder.path().to_path_buf()] {
        let before = fs::metadata(path).expect("it is there").permissions();
        let open = fs::Permissions::from_mode(before.mode() | 0o020);
        fs::set_permissions(path, open).expect("its mode");
        let problems = told();
        let Some(problem) = problems.first() else { panic!("{} is open", path.display()) };
        assert!(problem.message.contains("hooks run as root, but its group may write to"));
        assert_eq!(problem.location.as_ref().map(|at| at.line), Some(6));
        assert!(problem.help.contains("chmod go-w "), "{problem:?}");
        fs::set_permissions(path, before).expect("its mode");
    }
    // The script of an interpreter is a program, too.
    let script = format!("{SMALLEST}[hooks]\non_change = [\"/bin/sh\", {hook:?}]\n");
    fs::write(&config, script).expect("written");
    assert_eq!(told(), []);
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o777)).expect("its mode");
    assert_eq!(told().len(), 1);
    // Without hooks, it does not matter who may write.
    fs::write(&config, SMALLEST).expect("written");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o666)).expect("its mode");
    assert!(Config::load(&config).expect("no hook").warnings.problems().is_empty());
}

/// Checks that a configuration that was kept is used without its hook, rather than not at all.
#[test]
fn a_kept_configuration_goes_on_without_a_hook_of_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let [config, hook] = with_hook(folder.path());
    let (_, sources) = Sources::load(&config).expect("it is fine");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o777)).expect("its mode");
    let Parsed { config, warnings } = sources.parse().expect("it is used");
    assert_eq!((config.hooks.on_change, warnings.problems().len()), (None, 1));
}
