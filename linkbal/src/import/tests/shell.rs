//! The language of scripts: functions, loops, branches and texts.

use super::*;

const TWO: &str = "ip route replace default via 192.0.2.1 dev eth0\n\
                   ip route add default via 198.51.100.1 dev eth1 table 2\n";

/// Returns the sources of the rules of a script of two lines.
fn sources(more: &str) -> Vec<String> {
    let (_, config) = imported(Kind::Script, &format!("{TWO}{more}"), None);
    let sources = config.rules.iter().flat_map(|rule| &rule.matches.source);
    sources.map(ToString::to_string).collect()
}

#[test]
fn functions_undo_by_whole_words_of_their_names() {
    let of = |name: &str| {
        sources(&format!("{name}() {{\n ip rule add from 10.0.5.0/24 table 2\n}}\n{name}\n")).len()
    };
    for name in ["prepara", "prepara_tabelas", "link1_down", "marca_para_link2", "unstoppable"] {
        assert_eq!(of(name), 1, "{name}");
    }
    for name in ["stop", "stop_all", "para_tudo", "down", "limpa_regras", "wan-cleanup"] {
        assert_eq!(of(name), 0, "{name}");
    }
}

#[test]
fn a_call_of_a_function_of_its_own_is_known() {
    let text = format!("{TWO}frob \"$1\"\nfrob() {{\n true\n}}\nother\n");
    let (translated, _) = imported(Kind::Script, &text, None);
    let unknown = translated.notes.iter().filter(|note| note.kind == NoteKind::Untranslated);
    let lines: Vec<usize> = unknown.flat_map(|note| note.lines.iter()).collect();
    assert_eq!(lines, [7]);
}

#[test]
fn loops_in_loops_give_all_combinations() {
    let text = "for a in 1 2; do\nfor b in 3 4; do\nnet=10.$a.$b.0/24\n\
                ip rule add from $net table $((2)) prio 1$a$b\n\
                ip rule add from $net table 2 prio 1$a$b\ndone\ndone\n";
    let expected = ["10.1.3.0/24", "10.1.4.0/24", "10.2.3.0/24", "10.2.4.0/24"];
    assert_eq!(sources(text), expected);
    let together =
        "for n in 1 2; do\nnet=10.0.$n.0/24\nip rule add from $net table 2 prio 1$n\ndone\n";
    assert_eq!(sources(together), ["10.0.1.0/24", "10.0.2.0/24"]);
}

#[test]
fn turns_beyond_the_last_one_are_told() {
    let words: Vec<String> = (0..9).map(|number| number.to_string()).collect();
    let words = words.join(" ");
    let text = format!(
        "{TWO}for a in {words}; do\nfor b in {words}; do\n\
         ip rule add from 10.$a.$b.0/24 table 2\ndone\ndone\n"
    );
    let (translated, config) = imported(Kind::Script, &text, None);
    assert_eq!(config.rules.len(), 64);
    assert!(notes(&translated, NoteKind::Untranslated, 5, "more turns"), "{translated:#?}");
}

#[test]
fn a_branch_on_the_line_of_case_is_read() {
    let text = "case \"$1\" in start) ip rule add from 10.0.5.0/24 table 2\n;;\nesac\n";
    assert_eq!(sources(text), ["10.0.5.0/24"]);
    let (translated, _) = imported(Kind::Script, &format!("{TWO}{text}"), None);
    assert!(!translated.notes.iter().any(|note| note.why == "not understood"), "{translated:#?}");
}

#[test]
fn a_shift_is_no_text_that_follows() {
    let text = "(( MARK = 1 << 8 ))\nif (( MARK > 3 )); then\ntrue\nfi\n\
                ip rule add from 10.0.5.0/24 table 2\nip rule add from 10.0.6.0/24 table $MARK\n";
    assert_eq!(sources(text), ["10.0.5.0/24"]);
}

#[test]
fn a_text_that_follows_belongs_to_its_command() {
    let text = format!(
        "{TWO}iptables-restore --noflush <<EOF\n*mangle\nCOMMIT\nEOF\nnft -f - <<'N'\nx\nN\n\
         ip rule add from 10.0.5.0/24 table 2\n"
    );
    let (translated, config) = imported(Kind::Script, &text, None);
    assert_eq!(config.rules.len(), 1);
    assert!(notes(&translated, NoteKind::Untranslated, 4, "not read"), "{translated:#?}");
    assert!(notes(&translated, NoteKind::Untranslated, 8, "nft"), "{translated:#?}");
}

#[test]
fn a_branch_that_stops_undoes() {
    let of = |pattern: &str| {
        let text = format!(
            "case \"$1\" in\n{pattern}\n ip rule add from 10.0.5.0/24 table 2\n;;\n\
             *) ip rule add from 10.0.6.0/24 table 2 ;;\nesac\n"
        );
        sources(&text).len()
    };
    for pattern in ["stop)", "stop|clear)", "(stop)", "stop )"] {
        assert_eq!(of(pattern), 1, "{pattern}");
    }
    for pattern in ["start)", "stop|start)", "start|stop)", "(start)", "down)", "\"$x\")"] {
        assert_eq!(of(pattern), 2, "{pattern}");
    }
}

#[test]
fn a_text_over_several_lines_is_no_command() {
    let text = format!(
        "{TWO}echo \"\nip route add default via 203.0.113.1 dev eth7\n\"\n\
         awk '{{\n  print \"ip rule add from 10.0.6.0/24 table 2\"\n}}' x\n\
         # don't\nip rule add from 10.0.5.0/24 table 2\n"
    );
    let (_, config) = imported(Kind::Script, &text, None);
    assert_eq!((config.uplinks.len(), config.rules.len()), (2, 1));
    // Quotes without an end are those of one line.
    let open = format!("{TWO}echo don't\nip rule add from 10.0.5.0/24 table 2\n");
    assert_eq!(imported(Kind::Script, &open, None).1.rules.len(), 1);
}
