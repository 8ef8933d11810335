//! A receiver by mail.

use lettre::message::Mailbox;
use toml::{Spanned, de::DeValue};

use super::{Address, address, secret};
use crate::{
    config::{
        Encryption, Mail, Server,
        diagnostics::problem::Fault,
        keys::notify::{FROM, PASSWORD_FILE, SERVER, TLS, TO, USER},
        parse::{reader::Section, value},
    },
    protocol::port,
};

const SERVER_HELP: &str = "write it like \"smtps://mail.example.com\" (TLS, port 465) or \
                           \"smtp://mail.example.com\" (STARTTLS, port 587)";

const TO_HELP: &str = "write an address, like to = \"admin@example.com\"";

/// Reads a receiver by mail, whose server is given.
pub(super) fn read(section: &Section) -> Option<Mail> {
    let server = section.get(&SERVER, server);
    section.require(
        &FROM,
        Fault::new("a mail needs a sender", "add a line like from = \"gateway@example.com\""),
    );
    section.require(
        &TO,
        Fault::new("a mail needs a recipient", "add a line like to = \"admin@example.com\""),
    );
    let from = section.get(&FROM, mailbox);
    let to = section.one_or_more(&TO, mailbox);
    if let Some(to) = &to {
        report_repeated(section, &to.items);
    }
    let login = login(section);
    let (server, from_start) = server?.into_inner();
    let encryption = encryption(section, from_start, login.is_some());
    Some(Mail {
        server,
        encryption,
        login,
        from: from?.into_inner(),
        to: to?.items.into_iter().map(Spanned::into_inner).collect(),
    })
}

/// Returns a server, and whether TLS begins with the connection.
fn server(value: &DeValue<'_>) -> Result<(Server, bool), Fault> {
    let text = value::text(value).map_err(|fault| Fault::new(fault.message, SERVER_HELP))?;
    let Address { scheme, server, rest } =
        address(text, &[("smtp", port::SUBMISSION), ("smtps", port::SUBMISSIONS)], SERVER_HELP)?;
    if !matches!(&*rest, "" | "/") {
        return Err(Fault::new(format!("{text:?} has {rest:?} behind its host"), SERVER_HELP));
    }
    Ok((server, scheme == "smtps"))
}

/// Reads an address, perhaps with a name.
fn mailbox(value: &DeValue<'_>) -> Result<String, Fault> {
    let text = value::text(value).map_err(|fault| Fault::new(fault.message, TO_HELP))?;
    match text.parse::<Mailbox>() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(Fault::new(format!("{text:?} is no mail address: {error}"), TO_HELP)),
    }
}

/// Reports recipients that are listed twice, with whatever name.
fn report_repeated(section: &Section, to: &[Spanned<String>]) {
    let address = |text: &Spanned<String>| {
        let mailbox = text.get_ref().parse::<Mailbox>().ok();
        mailbox.map(|mailbox| mailbox.email.to_string().to_ascii_lowercase())
    };
    for (at, item) in to.iter().enumerate() {
        if let Some(first) = to.iter().take(at).find(|first| address(first) == address(item)) {
            let fault = Fault::new("a recipient is listed twice", "remove one of the two");
            section.report_related(&TO, item.span(), fault, first.span(), "first here");
        }
    }
}

fn login(section: &Section) -> Option<(String, std::path::PathBuf)> {
    let user = section.get(&USER, |value| value::text(value).map(str::to_owned));
    let file = secret::file(section, &PASSWORD_FILE, "/etc/linkbal/mail-password");
    match (&user, &file) {
        (Some(user), None) if !section.has(&PASSWORD_FILE) => {
            let help = "add password_file = \"/etc/linkbal/mail-password\"";
            section.report(&USER, user.span(), Fault::new("a user without a password", help));
        }
        (None, Some(file)) if !section.has(&USER) => {
            let help = "add user = \"..\", the name that the server knows";
            section.report(
                &PASSWORD_FILE,
                file.span(),
                Fault::new("a password without a user", help),
            );
        }
        _ => {}
    }
    Some((user?.into_inner(), file?.into_inner()))
}

fn encryption(section: &Section, from_start: bool, has_login: bool) -> Encryption {
    let help = "write \"required\" or \"off\"";
    let word = section.get(&TLS, |value| match value::word(value, help)? {
        word @ ("required" | "off") => Ok(word.to_owned()),
        other => Err(Fault::new(format!("{other:?} is unknown"), help)),
    });
    let usual = if from_start { Encryption::Tls } else { Encryption::StartTls };
    let Some(word) = word.filter(|word| word.get_ref() == "off") else { return usual };
    if from_start {
        let fault =
            Fault::new("smtps:// is TLS", "write smtp:// for a server without, or remove it");
        section.report(&TLS, word.span(), fault);
    } else if has_login {
        let fault = Fault::new("the password would be sent without encryption", "remove it");
        section.report(&TLS, word.span(), fault);
    }
    Encryption::Off
}
