//! The language of scripts: functions, loops, branches and texts.

use super::*;

const TWO: &str = "ip route replace default via 192.0.2.1 dev eth0\n\
                   ip route add default via 198.51.100.1 dev eth1 table 2\n";

/// Returns the sources of the rules of a script of two lines.
fn sources(more: &str) -> Vec<String> {
    let (_, config) = imported(Tool::Script, &format!("{TWO}{more}"), None);
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
    let (translated, _) = imported(Tool::Script, &text, None);
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
    let (translated, config) = imported(Tool::Script, &text, None);
    assert_eq!(config.rules.len(), 64);
    assert!(notes(&translated, NoteKind::Untranslated, 5, "more turns"), "{translated:#?}");
}

#[test]
fn a_branch_on_the_line_of_case_is_read() {
    let text = "case \"$1\" in start) ip rule add from 10.0.5.0/24 table 2\n;;\nesac\n";
    assert_eq!(sources(text), ["10.0.5.0/24"]);
    let (translated, _) = imported(Tool::Script, &format!("{TWO}{text}"), None);
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
    let (translated, config) = imported(Tool::Script, &text, None);
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
    let (_, config) = imported(Tool::Script, &text, None);
    assert_eq!((config.uplinks.len(), config.rules.len()), (2, 1));
    // Quotes without an end are those of one line.
    let open = format!("{TWO}echo don't\nip rule add from 10.0.5.0/24 table 2\n");
    assert_eq!(imported(Tool::Script, &open, None).1.rules.len(), 1);
}

#[test]
fn a_function_is_read_with_the_arguments_of_each_call() {
    let text = "add() {\n local net=$1 table=$2\n\
                ip rule add from $net table $table\n}\n\
                add 10.0.5.0/24 2\nadd 10.0.6.0/24 2\n";
    assert_eq!(sources(text), ["10.0.6.0/24", "10.0.5.0/24"]);
    let (translated, _) = imported(Tool::Script, &format!("{TWO}{text}"), None);
    assert!(!translated.notes.iter().any(|note| note.kind == NoteKind::Untranslated));
    let one_line =
        "add() { ip rule add from $1 table 2; }\nfor n in 5 6; do add 10.0.$n.0/24; done\n";
    assert_eq!(sources(one_line), ["10.0.6.0/24", "10.0.5.0/24"]);
    // One that calls itself has an end.
    let endless = "f() { ip rule add from 10.0.5.0/24 table 2; f $1; g $1; }\n\
                   g() { f $1; }\nf x\ng x\n";
    assert!(!sources(endless).is_empty());
}

#[test]
fn arrays_are_read() {
    let text = "declare -a NETS=(10.0.5.0/24 10.0.6.0/24\n  10.0.7.0/24 )\nTABLES=(1 2)\n\
                for net in \"${NETS[@]}\"; do\nip rule add from $net table ${TABLES[1]}\ndone\n";
    assert_eq!(sources(text), ["10.0.7.0/24", "10.0.6.0/24", "10.0.5.0/24"]);
    let text = "NETS=(10.0.5.0/24 10.0.6.0/24)\nfor i in ${!NETS[@]}; do\n\
                ip rule add from ${NETS[$i]} table 2 prio $((100+i))\ndone\n";
    assert_eq!(sources(text), ["10.0.5.0/24", "10.0.6.0/24"]);
}

#[test]
fn sequences_and_places_of_programs_are_known() {
    let text = "IP=$(which ip)\nfor n in {1..2}; do $IP rule add from 10.0.$n.0/24 table 2; done\n\
                for n in $(seq 3 4); do `which ip` rule add from 10.0.$n.0/24 table 2; done\n\
                sh -c \"ip rule add from 10.0.5.0/24 table 2\"\n";
    let numbers = ["5", "4", "3", "2", "1"];
    assert_eq!(sources(text), numbers.map(|number| format!("10.0.{number}.0/24")));
}

#[test]
fn names_of_tables_are_their_numbers() {
    let script = |names: &str| {
        format!(
            "{names}ip route replace default via 192.0.2.1 dev eth0\n\
             ip route add default via 198.51.100.1 dev eth1 table 201\n\
             ip rule add from 10.0.5.0/24 table oi\n"
        )
    };
    for names in [
        "echo \"201 oi\" >> /etc/iproute2/rt_tables\n",
        "cat >> /etc/iproute2/rt_tables <<END\n201 oi\n202 tim\nEND\n",
    ] {
        let (_, config) = imported(Tool::Script, &script(names), None);
        assert_eq!(members(&config, 0), [("eth1", 1, 1)], "{names}");
    }
}

#[test]
fn commands_of_interfaces_are_read() {
    let text = "auto eth1\niface eth1 inet static\n\
                up ip rule add from 10.0.5.0/24 table 2\n\
                down ip rule del from 10.0.5.0/24 table 2\n";
    assert_eq!(sources(text), ["10.0.5.0/24"]);
}

#[test]
fn what_stays_outside_is_told() {
    let text =
        format!("{TWO}echo \"nameserver 8.8.8.8\" > /etc/resolv.conf\nkill -9 1\nrm -f /tmp/x\n");
    let (translated, _) = imported(Tool::Script, &text, None);
    for line in 3..=5 {
        assert!(notes(&translated, NoteKind::Unneeded, line, "outside"), "{translated:#?}");
    }
}
