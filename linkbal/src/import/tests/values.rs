//! Values of variables in scripts: those that only a run would tell are not guessed.

use super::*;

const TWO: &str = "ip route replace default via 192.0.2.1 dev eth0\n\
                   ip route add default via 198.51.100.1 dev eth1 table 2\n";

/// Returns the sources of the ip rules of a script, in the order of the script. A rule with a value that
/// is not known is none.
fn sources(more: &str) -> Vec<String> {
    let (_, config) = imported(Tool::Script, &format!("{TWO}{more}"), None);
    let mut sources: Vec<String> = config
        .rules
        .iter()
        .flat_map(|rule| &rule.matches.source)
        .map(|net| net.addr().to_string())
        .collect();
    sources.reverse();
    sources
}

/// Returns whether a value is known behind commands.
fn is_known(commands: &str) -> bool {
    !sources(&format!("{commands}\nip rule add from 10.0.0.$T table 2\n")).is_empty()
}

#[test]
fn a_counter_has_another_value_in_each_turn() {
    for count in ["n=$((n+1))", "let n++", "((n++))", "n=`expr $n + 1`", ": $((n++))", "read n"] {
        let first = format!(
            "n=1\nfor x in 1 2; do\n ip rule add from 10.0.$n.$x table 2\n {count}\ndone\n"
        );
        assert!(sources(&first).is_empty(), "{count}");
        let behind = format!(
            "n=1\nfor x in 1 2; do\n {count}\n ip rule add from 10.0.$n.$x table 2\ndone\n"
        );
        assert!(sources(&behind).is_empty(), "{count}");
    }
    let called = "n=1\nnext() {\n n=$((n+1))\n}\nfor x in 1 2; do\n next\n\
                  ip rule add from 10.0.$n.$x table 2\ndone\n";
    assert!(sources(called).is_empty());
    // What each turn sets anew is known.
    let anew = "for x in 1 2; do\n n=$((x+4))\n ip rule add from 10.0.$n.$x table 2\ndone\n";
    assert_eq!(sources(anew), ["10.0.5.1", "10.0.6.2"]);
}

#[test]
fn a_default_is_only_for_what_has_no_value() {
    let of = |word: &str| sources(&format!("A=5\nE=\nip rule add from 10.0.0.{word} table 2\n"));
    assert_eq!(of("${A:-7}"), ["10.0.0.5"]);
    assert_eq!(of("${B:-7}"), ["10.0.0.7"]);
    assert_eq!(of("${E:-7}"), ["10.0.0.7"]);
    assert_eq!(of("${B:-$A}"), ["10.0.0.5"]);
    assert_eq!(of("${B:-${A}}"), ["10.0.0.5"]);
    let call = "h() { ip rule add from $1 table ${2:-2}; }\nh 10.0.0.9\nh 10.0.0.8 2\n";
    assert_eq!(sources(call), ["10.0.0.9", "10.0.0.8"]);
}

#[test]
fn a_function_sets_variables_when_it_is_called() {
    let of = |call: &str| {
        sources(&format!("T=1\nuse2() {{\n T=2\n}}\n{call}\nip rule add from 10.0.0.$T table 2\n"))
    };
    assert_eq!(of(""), ["10.0.0.1"]);
    assert_eq!(of("use2"), ["10.0.0.2"]);
    let counted = "T=4\nadd() {\n local own=$1\n T=$((T+1))\n ip rule add from 10.0.$own.$T table 2\n}\n\
                   add 1\nadd 2\nip rule add from 10.0.9.$T table 2\n";
    assert_eq!(sources(counted), ["10.0.1.5", "10.0.2.6", "10.0.9.6"]);
    let own = "own=7\nadd() {\n local own=$1\n}\nadd 1\nip rule add from 10.0.0.$own table 2\n";
    assert_eq!(sources(own), ["10.0.0.7"]);
}

#[test]
fn arguments_move() {
    let shift = "both() { ip rule add from $1 table 2; shift; ip rule add from $1 table 2; }\n\
                 both 10.0.0.1 10.0.0.2\n";
    assert_eq!(sources(shift), ["10.0.0.1", "10.0.0.2"]);
    let set = "add() {\n set -- $2 $1\n ip rule add from $1 table 2\n}\nadd 10.0.0.1 10.0.0.2\n";
    assert_eq!(sources(set), ["10.0.0.2"]);
    let turns = "add() {\n while [ $# -gt 0 ]; do\n ip rule add from $1 table 2\n shift\n done\n\
                 ip rule add from $1 table 2\n}\nadd 10.0.0.1 10.0.0.2\n";
    assert!(!sources(turns).contains(&"10.0.0.2".to_owned()));
    let lists = "for l in \"10.0.2.5 2\" \"10.0.2.6 2\"; do\n set -- $l\n\
                 ip rule add from $1 table $2\ndone\n";
    assert!(sources(lists).is_empty());
}

#[test]
fn a_function_on_one_line_may_call_another() {
    let text = "add() {\n ip rule add from $1 table $2\n}\nwrap() { add $1 2; }\nwrap 10.0.0.7\n";
    assert_eq!(sources(text), ["10.0.0.7"]);
    let (translated, _) = imported(Tool::Script, &format!("{TWO}{text}"), None);
    assert!(!translated.notes.iter().any(|note| note.kind == NoteKind::Untranslated));
}

#[test]
fn texts_in_quotes_stay_whole() {
    let text = "for r in \"10.0.0.5 table 2\" \"10.0.0.6 table 2\"; do ip rule add from $r; done\n\
                R=(\"10.0.3.5 lookup 2\" \"10.0.3.6 lookup 2\")\n\
                for r in \"${R[@]}\"; do ip rule add from $r; done\n";
    assert_eq!(sources(text), ["10.0.0.5", "10.0.0.6", "10.0.3.5", "10.0.3.6"]);
}

#[test]
fn what_a_condition_sets_is_not_sure() {
    for unsure in [
        "if ping -c1 x; then T=2; else T=1; fi",
        "T=1\nif ping -c1 x; then\n T=2\nfi",
        "ping -c1 x && T=1 || T=2",
        "T=1\nping -c1 x || { T=2; }",
        "case $(date +%H) in 08) T=1 ;; *) T=2 ;; esac",
        "for i in a b; do\ncase $i in a) T=1 ;; b) T=2 ;; esac\ndone",
    ] {
        assert!(!is_known(unsure), "{unsure}");
    }
    for sure in [
        "if ping -c1 x; then T=2; else T=2; fi",
        "if [ -z \"$T\" ]; then T=2; fi",
        "case \"$1\" in start) T=1 ;; esac",
        "T=1\nif [ -f /etc/lb ]; then T=2; fi",
    ] {
        assert!(is_known(sure), "{sure}");
    }
    // Within the block it is.
    let within = "T=1\nif ping -c1 x; then\n T=2\n ip rule add from 10.0.0.$T table 2\nfi\n";
    let (translated, _) = imported(Tool::Script, &format!("{TWO}{within}"), None);
    assert!(translated.text.contains("10.0.0.2"), "{}", translated.text);
}

#[test]
fn arrays_that_are_changed_are_not_known() {
    for change in
        ["A[$n]=10.0.0.7", "A+=(10.0.0.7)", "A[$n]=x\nA[1]=10.0.0.7", "declare -A A=([x]=10.0.0.7)"]
    {
        let text = format!(
            "A=(10.0.0.5 10.0.0.6)\n{change}\nfor a in ${{A[@]}}; do ip rule add from $a table 2; done\n"
        );
        assert!(sources(&text).is_empty(), "{change}");
    }
    let text = "A=(10.0.0.5 10.0.0.6)\nA[1]=10.0.0.7\nB[2]=2\n\
                for a in ${A[@]}; do ip rule add from $a table ${B[2]}; done\n";
    assert_eq!(sources(text), ["10.0.0.5", "10.0.0.7"]);
    assert!(sources("T=1\nT+=2\nip rule add from 10.0.0.$T table 2\n").is_empty());
    let shift = "add() {\n while true; do\n ip rule add from $1 table 2\n shift\n done\n}\n\
                 add 10.0.0.1 10.0.0.2\n";
    assert!(sources(shift).is_empty());
}
