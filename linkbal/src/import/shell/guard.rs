//! Tests before commands: what follows one that only guards it is done on every run.

/// Programs that ask a host: what follows depends on the state of a line.
const ASKING: [&str; 11] =
    ["ping", "ping6", "fping", "arping", "curl", "wget", "nc", "dig", "nslookup", "host", "mtr"];

/// Words in names of functions that ask.
const QUESTIONS: [&str; 5] = ["check", "test", "ping", "alive", "testa"];

/// Places of files that do not come and go with a line.
const LASTING: [&str; 7] = ["/etc/", "/proc/", "/sys/", "/usr/", "/sbin/", "/bin/", "/lib/"];

/// Returns whether the words of a test only guard: it says whether something is set up already, or goes
/// on for ever.
pub(super) fn is_guard(words: &[String]) -> bool {
    let (program, arguments) = program_of(words);
    let text = arguments.join(" ");
    match program {
        "true" | ":" | "read" | "sleep" | "which" | "command" | "type" | "lsmod" | "modprobe"
        | "wc" | "iptables-save" | "" => true,
        "ip" => arguments.iter().any(|word| matches!(word.as_str(), "rule" | "ru")),
        "iptables" | "ip6tables" => {
            arguments.iter().any(|word| ["-C", "-L", "-S", "--check", "--list"].contains(&&**word))
        }
        "grep" | "egrep" | "fgrep" => !arguments.iter().any(|word| comes_and_goes(word)),
        "[" | "[[" | "test" => is_guard_in_brackets(&text),
        _ => false,
    }
}

/// Returns whether a test in brackets only guards.
fn is_guard_in_brackets(text: &str) -> bool {
    const GUARDS: [&str; 8] =
        ["ip rule", "ip ru ", "iptables", "id -u", "whoami", "UID", "$USER", "-x "];
    let endless = matches!(text.trim_end_matches([']', ' ']), "1" | "true" | "1 = 1" | "1 -eq 1");
    let mut words = text.split(' ');
    let on_file = words.any(|word| matches!(word, "-f" | "-e" | "-d" | "-r" | "-s"));
    let file = text.split(' ').find(|word| word.starts_with('/'));
    endless
        || GUARDS.iter().any(|guard| text.contains(guard))
        || on_file && file.is_some_and(|file| !comes_and_goes(file))
}

/// Returns whether a word is a file that may come and go.
fn comes_and_goes(word: &str) -> bool {
    word.starts_with('/') && !LASTING.iter().any(|place| word.starts_with(place))
}

/// Returns whether a test is about the arguments of the script.
pub(super) fn is_about_arguments(words: &[String]) -> bool {
    let (program, arguments) = program_of(words);
    let signs = ["$1", "${1", "$#", "$@", "$*"];
    let about = |word: &String| signs.iter().any(|sign| word.contains(sign));
    matches!(program, "[" | "[[" | "test") && arguments.iter().any(about)
}

/// Returns whether what `&&` and `||` put behind a command depends on the state of a line.
pub(super) fn is_question(words: &[String]) -> bool {
    let (program, _) = program_of(words);
    let brackets = matches!(program, "[" | "[[" | "test") && !is_guard(words);
    let name = program.to_ascii_lowercase();
    let mut parts = name.split(|c: char| !c.is_ascii_alphabetic());
    ASKING.contains(&program)
        || brackets
        || parts.any(|part| QUESTIONS.contains(&part)) && !matches!(program, "test")
}

/// Returns the name of a program without its place, and its arguments.
fn program_of(words: &[String]) -> (&str, &[String]) {
    let skip = words.iter().take_while(|word| *word == "!").count();
    let Some((program, arguments)) = words.get(skip..).and_then(<[String]>::split_first) else {
        return ("", &[]);
    };
    (program.rsplit('/').next().unwrap_or(program), arguments)
}
