//! `[notify.NAME]`.

use std::{net::Ipv4Addr, os::unix::fs::PermissionsExt as _};

use super::*;
use crate::notify::template::Template;

fn parse(lines: &str) -> Result<Parsed, ConfigError> {
    let text = format!("{SMALLEST}[notify.a]\n{lines}\n");
    Config::parse_with(&text, Path::new("test"), &|_: &Path| Err(io::ErrorKind::Unsupported.into()))
}

fn receiver(lines: &str) -> Receiver {
    let parsed = parse(lines).unwrap_or_else(|error| panic!("{error}"));
    parsed.config.receivers.into_iter().next().expect("a receiver")
}

/// Returns the problems, each with its line within the section.
fn problems(lines: &str) -> Vec<(usize, String)> {
    let error = parse(lines).expect_err("a problem");
    let above = SMALLEST.lines().count() + 1;
    let line = |problem: &Problem| problem.location.as_ref().map_or(0, |at| at.line - above);
    let each = error.problems().iter();
    each.map(|problem| (line(problem), format!("{} {}", problem.message, problem.help))).collect()
}

#[track_caller]
fn assert_problem(lines: &str, line: usize, part: &str) {
    let found = problems(lines);
    assert!(found.len() == 1 && found[0].0 == line && found[0].1.contains(part), "{found:#?}");
}

const MAIL: &str = "server = \"smtp://mail.example.com\"\nfrom = \"gw@example.com\"\n";

#[test]
fn what_is_there_twice_is_a_mistake() {
    let url = "url = \"https://chat.example.com/\"\n";
    let twice = format!("{url}headers = {{ Title = \"a\", title = \"b\" }}");
    assert_problem(&twice, 2, "header field title is there twice");
    let to = "to = [\"a@example.com\", \"b@example.com\", \"A <A@example.com>\"]";
    assert_problem(&format!("{MAIL}{to}"), 3, "a recipient is listed twice");
}

#[test]
fn a_mail_has_a_server_and_addresses() {
    let Receiver { name, to, events, gather, limit } =
        receiver(&format!("{MAIL}to = [\"A B <a@example.com>\", \"b@example.org\"]"));
    assert_eq!(
        (&*name, &*events, gather, limit),
        ("a", &["uplink".into()][..], Duration::from_secs(10), 20)
    );
    let Destination::Mail(mail) = to else { panic!("{to:?}") };
    let server = Server { host: Host::Name("mail.example.com".into()), port: 587 };
    let expected = Mail {
        server,
        encryption: Encryption::StartTls,
        login: None,
        from: "gw@example.com".into(),
        to: vec!["A B <a@example.com>".into(), "b@example.org".into()],
    };
    assert_eq!(mail, expected);
    let encryption =
        |lines: &str| match receiver(&format!("{lines}\nfrom = \"a@b.c\"\nto = \"a@b.c\"")).to {
            Destination::Mail(mail) => (mail.server.port, mail.encryption),
            Destination::Post(post) => panic!("{post:?}"),
        };
    assert_eq!(encryption("server = \"smtps://[2001:db8::1]\""), (465, Encryption::Tls));
    assert_eq!(
        encryption("server = \"smtp://127.0.0.1:25\"\ntls = \"off\""),
        (25, Encryption::Off)
    );
}

#[test]
fn a_webhook_has_an_address_and_perhaps_a_template() {
    let token = tempfile::NamedTempFile::new().expect("a file");
    let lines = format!(
        "url = \"https://Api.example.com:8443/bot{{token}}/send?a=b#c\"\ntoken_file = {:?}\n\
         headers = {{ Title = \"{{title}}\" }}\ntemplate = '{{\"text\": \"{{text}}\"}}'",
        token.path()
    );
    let Destination::Post(post) = receiver(&lines).to else { panic!("no webhook") };
    assert_eq!(
        (post.secure, &*post.path, &*post.authority()),
        (true, "/bot{token}/send?a=b", "api.example.com:8443")
    );
    assert_eq!(post.headers, [("Title".into(), "{title}".into())]);
    assert_eq!(post.template, Template::parse(r#"{"text": "{text}"}"#).expect("a template"));
    let Destination::Post(post) = receiver("url = \"http://192.0.2.1\"").to else {
        panic!("no webhook")
    };
    assert_eq!(
        (post.server.host, &*post.path),
        (Host::Address(Ipv4Addr::new(192, 0, 2, 1).into()), "/")
    );
    assert_eq!(post.template, Template::default());
}

#[test]
fn mistakes_are_told_where_they_are() {
    const URL: &str = "url = \"https://example.com/\"\n";
    assert_problem("limit = 3", 0, "has neither url nor server");
    assert_problem(MAIL, 0, "needs a recipient");
    assert_problem(&format!("{MAIL}to = \"nobody\""), 3, "no mail address");
    assert_problem(
        &format!("{MAIL}to = \"a@b.c\"\nurl = \"https://example.com\""),
        1,
        "either a url or a server",
    );
    assert_problem(&format!("{MAIL}to = \"a@b.c\"\ntemplate = \"x\""), 4, "is of a webhook");
    assert_problem(&format!("{MAIL}to = \"a@b.c\"\nuser = \"x\""), 4, "password_file = ");
    assert_problem(&format!("{MAIL}to = \"a@b.c\"\npassword = \"x\""), 4, "only root may read");
    assert_problem(
        "server = \"mail.example.com\"\nfrom = \"a@b.c\"\nto = \"a@b.c\"",
        1,
        "has no scheme",
    );
    assert_problem(
        "server = \"smtps://x/y\"\nfrom = \"a@b.c\"\nto = \"a@b.c\"",
        1,
        "behind its host",
    );
    assert_problem(
        "server = \"smtps://x\"\ntls = \"off\"\nfrom = \"a@b.c\"\nto = \"a@b.c\"",
        2,
        "smtps:// is TLS",
    );
    assert_problem("url = \"ftp://example.com\"", 1, "of an unknown kind");
    assert_problem("url = \"https://u:p@example.com\"", 1, "has no host");
    assert_problem("url = \"https://example.com:0/\"", 1, "port");
    assert_problem("url = \"https://exa mple.com\"", 1, "has no host");
    assert_problem("url = \"https://example.com/{text}\"", 1, "only {token}");
    assert_problem("url = \"https://example.com/{token}\"", 1, "token_file = ");
    assert_problem("url = \"https://{token}.example.com/\"", 1, "");
    assert_problem(
        &format!("{URL}template = '{{\"text\": {{text}}}}'"),
        2,
        "it is no JSON: key must be a string",
    );
    assert_problem(
        &format!("{URL}template = '{{\"text\": \"{{txt}}\"}}'"),
        2,
        "there is no placeholder {txt} the placeholders are: {title}, {text}",
    );
    assert_problem(&format!("{URL}headers = {{ Host = \"x\" }}"), 2, "follows from the request");
    assert_problem(
        &format!("{URL}headers = {{ \"a b\" = \"x\" }}"),
        2,
        "no name of a header field",
    );
    assert_problem(&format!("{URL}headers = {{ a = \"{{text}}\" }}"), 2, "several lines");
    assert_problem(&format!("{URL}events = [\"uplinks\"]"), 2, "did you mean \"uplink\"?");
    assert_problem(&format!("{URL}events = []"), 2, "told of nothing");
    assert_problem(&format!("{URL}limit = 0"), 2, "not within 1 to 1000");
    assert_problem(&format!("{URL}token = \"x\""), 2, "secrets are not in this file");
    assert_problem(&format!("{URL}token_file = \"token\""), 2, "no path from the root");
}

#[test]
fn a_password_is_not_sent_without_encryption() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let lines = format!(
        "{MAIL}to = \"a@b.c\"\nuser = \"x\"\npassword_file = {:?}\ntls = \"off\"",
        file.path()
    );
    assert_problem(&lines, 6, "would be sent without encryption");
}

#[test]
fn a_file_that_is_not_secret_is_a_warning() {
    let warnings = |lines: &str| -> Vec<String> {
        let parsed = parse(lines).unwrap_or_else(|error| panic!("{error}"));
        parsed.warnings.problems().iter().map(|problem| problem.message.clone()).collect()
    };
    let file = tempfile::NamedTempFile::new().expect("a file");
    let lines = format!("url = \"https://example.com/\"\ntoken_file = {:?}", file.path());
    assert!(warnings(&lines).is_empty());
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).expect("its mode");
    assert!(warnings(&lines)[0].contains("all users may read"));
    assert!(
        warnings(&lines.replace("https", "http")).len() == 2,
        "the token is sent without encryption"
    );
    file.close().expect("removed");
    assert!(warnings(&lines)[0].contains("cannot be read"));
}

#[test]
fn the_words_for_events_are_their_kinds() {
    use crate::events::EventKind;
    let word = |kind: EventKind| EVENT_WORDS.contains(&kind.name());
    for kind in EventKind::ALL {
        let own = matches!(kind, EventKind::Diagnosis | EventKind::Notify);
        assert!(word(kind) != own, "{}", kind.name());
    }
}
