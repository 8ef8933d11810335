//! A message as a mail, by SMTP (RFC 5321).

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lettre::{
    Message as Letter,
    address::Envelope,
    message::header::{ContentType, HeaderName, HeaderValue},
    transport::smtp::{
        Error as SmtpError,
        authentication::{Credentials, Mechanism},
        client::{
            AsyncSmtpConnection, AsyncTokioStream, Certificate, CertificateStore, TlsParameters,
        },
        commands::{Data, Mail as Command, Rcpt},
        extension::{ClientId, Extension, MailBodyParameter, MailParameter},
        response::Response,
    },
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use super::{Refused, Taken, stream::Limited};
use crate::{
    config::{Encryption, Host, Mail},
    notify::text::Message,
    sys::{host::thread, tls},
};

/// Ways to log in, the best first.
const MECHANISMS: [Mechanism; 2] = [Mechanism::Plain, Mechanism::Login];

/// Longest time for the answer to QUIT.
const QUIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Hands a message to a mail server over a connection.
///
/// # Errors
///
/// If the server refuses it, or the connection is not as safe as the configuration wants it.
pub(super) async fn send(
    stream: TcpStream,
    mail: &Mail,
    message: &Message,
    password: Option<&str>,
) -> Result<Taken> {
    let letter = letter(mail, message)?;
    let hello = ClientId::Domain(domain(&message.gateway));
    let mut connection = open(stream, mail, &hello).await?;
    if let (Some((user, _)), Some(password)) = (&mail.login, password) {
        let credentials = Credentials::new(user.clone(), password.to_owned());
        let accepted = connection.auth(&MECHANISMS, &credentials).await;
        accepted.map_err(failure).with_context(|| format!("failed to log in as {user}"))?;
    }
    let (response, refused) = hand_over(&mut connection, &letter).await?;
    // The server has the message: however long it takes to part, the message is not sent again.
    tokio::spawn(async move { timeout(QUIT_TIMEOUT, connection.quit()).await });
    let said = format!("{} {}", response.code(), response.first_line().unwrap_or_default());
    Ok(Taken { said, refused })
}

/// Hands a mail over to those recipients that the server accepts; returns its answer, and the others, each
/// with the reason.
///
/// # Errors
///
/// If the server accepts none, or refuses the mail.
async fn hand_over(
    connection: &mut AsyncSmtpConnection,
    letter: &Letter,
) -> Result<(Response, Vec<String>)> {
    let (envelope, text) = (letter.envelope(), letter.formatted());
    let options = options(connection, envelope, &text)?;
    let from = Command::new(envelope.from().cloned(), options);
    connection.command(from).await.map_err(failure)?;
    let mut refused = Vec::new();
    for to in envelope.to() {
        match connection.command(Rcpt::new(to.clone(), Vec::new())).await {
            Err(error) if error.status().is_some() => refused.push(format!("{to}: {error}")),
            answered => drop(answered.map_err(failure)?),
        }
    }
    // One that is gone must not keep the others from the news.
    if refused.len() == envelope.to().len() {
        let public = "the server accepts no recipient".to_owned();
        return Err(Refused { public, said: refused.join("; ") }.into());
    }
    connection.command(Data).await.map_err(failure)?;
    let response = connection.message(&text).await.map_err(failure)?;
    Ok((response, refused))
}

/// Returns what a server must support for a mail, RFC 6152 and RFC 6531.
fn options(
    connection: &AsyncSmtpConnection,
    envelope: &Envelope,
    text: &[u8],
) -> Result<Vec<MailParameter>> {
    let server = connection.server_info();
    let mut options = Vec::new();
    let mut addresses = envelope.from().into_iter().chain(envelope.to());
    if !addresses.all(|address| address.to_string().is_ascii()) {
        ensure!(server.supports_feature(Extension::SmtpUtfEight), "the server has no SMTPUTF8");
        options.push(MailParameter::SmtpUtfEight);
    }
    if !text.is_ascii() {
        ensure!(server.supports_feature(Extension::EightBitMime), "the server has no 8BITMIME");
        options.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    Ok(options)
}

/// Opens a conversation, encrypted as the configuration wants it.
async fn open(stream: TcpStream, mail: &Mail, hello: &ClientId) -> Result<AsyncSmtpConnection> {
    let peer = stream.peer_addr()?;
    let host = match &mail.server.host {
        Host::Address(address) => address.to_string(),
        Host::Name(name) => name.clone(),
    };
    let stream: Box<dyn AsyncTokioStream> = match mail.encryption {
        Encryption::Tls => {
            let config = thread::run("tls", tls::client).await??;
            let name = ServerName::try_from(host.clone())?;
            let stream = TlsConnector::from(config).connect(name, stream).await;
            Box::new(Limited::new(stream.context("failed to agree on TLS")?, peer))
        }
        Encryption::StartTls | Encryption::Off => Box::new(Limited::new(stream, peer)),
    };
    let connection = AsyncSmtpConnection::connect_with_transport(stream, hello).await;
    let mut connection = connection.map_err(failure)?;
    if mail.encryption == Encryption::StartTls {
        if !connection.can_starttls() {
            bail!("the server has no STARTTLS: write smtps:// if it has TLS, else tls = \"off\"");
        }
        let parameters = thread::run("tls", move || parameters(host)).await??;
        let started = connection.starttls(parameters, hello).await;
        started.map_err(failure).context("failed to agree on TLS")?;
    }
    Ok(connection)
}

/// Returns the parameters of TLS after STARTTLS.
fn parameters(host: String) -> Result<TlsParameters> {
    let mut builder = TlsParameters::builder(host).certificate_store(CertificateStore::WebpkiRoots);
    if let Some(text) = tls::own_certificates()? {
        builder = builder.certificate_store(CertificateStore::None);
        builder = builder.add_root_certificate(Certificate::from_pem(&text)?);
    }
    Ok(builder.build_rustls()?)
}

/// Returns an error of a conversation, with what the server said.
fn failure(error: SmtpError) -> anyhow::Error {
    match error.status() {
        Some(code) => {
            Refused { public: format!("the server answers {code}"), said: error.to_string() }.into()
        }
        None => error.into(),
    }
}

/// Makes the mail.
fn letter(mail: &Mail, message: &Message) -> Result<Letter> {
    let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
    let number = getrandom::u64().unwrap_or_default();
    let mut letter = Letter::builder()
        .from(mail.from.parse()?)
        .date_now()
        .message_id(Some(format!("<{number:016x}@{}>", domain(&message.gateway))))
        .subject(format!("[{}] {}", message.gateway, message.title))
        // RFC 3834 section 5: nobody is to answer that he is away.
        .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()))
        .header(ContentType::TEXT_PLAIN);
    for to in &mail.to {
        letter = letter.to(to.parse()?);
    }
    letter.body(message.text.clone() + "\n").context("failed to write the mail")
}

/// Returns a name as the domain of a host.
fn domain(name: &str) -> String {
    let fits = |letter: &char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.');
    let domain: String = name.chars().filter(fits).collect();
    if domain.is_empty() { "localhost".into() } else { domain }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;
    use tokio::{
        io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
        net::TcpListener,
        sync::mpsc,
    };

    use super::*;
    use crate::{config::Server, events::severity::EventSeverity};

    pub(in crate::sys::notify) fn mail() -> Mail {
        Mail {
            server: Server { host: Host::Name("mail.example".into()), port: 25 },
            encryption: Encryption::Off,
            login: None,
            from: "linkbal <gw@example.com>".into(),
            to: vec!["a@example.com".into(), "B C <b@example.org>".into()],
        }
    }

    fn formatted(title: &str, text: &str) -> String {
        let message = Message {
            title: title.into(),
            text: text.into(),
            severity: EventSeverity::Info,
            gateway: "gw".into(),
            time: String::new(),
        };
        let letter = letter(&mail(), &message).expect("a mail");
        String::from_utf8(letter.formatted()).expect("text")
    }

    #[test]
    fn a_mail_has_its_header_fields() {
        let text = formatted("fiber is down", "since then");
        for line in [
            "From: linkbal <gw@example.com>\r\n",
            "To: a@example.com, \"B C\" <b@example.org>\r\n",
            "Subject: [gw] fiber is down\r\n",
            "Auto-Submitted: auto-generated\r\n",
            "Content-Type: text/plain; charset=utf-8\r\n",
            "\r\n\r\nsince then\r\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }

    /// A server that takes each mail, but never says good-bye.
    const TAKING: [(&str, &str); 5] = [
        ("EHLO", "250 mail.example"),
        ("MAIL", "250 OK"),
        ("RCPT", "250 OK"),
        ("DATA", "354 go on"),
        (".", "250 taken"),
    ];

    /// Sends a message to a server that answers each command by its verb, from a script, and says nothing
    /// to others; returns what it said, and what it was told.
    async fn converse(script: &'static [(&str, &str)]) -> (Result<Taken>, Vec<String>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a server");
        let address = listener.local_addr().expect("an address");
        let (commands, mut told) = mpsc::unbounded_channel();
        let serving = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a client");
            let mut stream = BufReader::new(stream);
            stream.write_all(b"220 hello\r\n").await.expect("sent");
            let mut line = String::new();
            while stream.read_line(&mut line).await.is_ok_and(|length| length > 0) {
                let line = std::mem::take(&mut line);
                if let Some((_, answer)) = script.iter().find(|(verb, _)| line.starts_with(verb)) {
                    let answer = format!("{answer}\r\n");
                    stream.write_all(answer.as_bytes()).await.expect("sent");
                }
                // The receiver is gone at the end of the test.
                let _ = commands.send(line.trim().to_owned());
            }
        });
        let stream = TcpStream::connect(address).await.expect("connected");
        let (title, text) = ("fiber is down".into(), "since then".into());
        let message = Message {
            title,
            text,
            severity: EventSeverity::Info,
            gateway: "gw".into(),
            time: String::new(),
        };
        let said = timeout(Duration::from_secs(10), send(stream, &mail(), &message, None)).await;
        serving.abort();
        let mut all = Vec::new();
        while let Ok(line) = told.try_recv() {
            all.push(line);
        }
        (said.expect("it comes to an end"), all)
    }

    #[tokio::test]
    async fn a_mail_is_sent_once_though_the_server_does_not_part() {
        let (said, _) = converse(&TAKING).await;
        let taken = said.expect("it is sent");
        assert_eq!((taken.said.as_str(), taken.refused.len()), ("250 taken", 0));
    }

    #[tokio::test]
    async fn a_recipient_that_is_refused_keeps_no_mail_from_the_others() {
        let script = |refused: &'static str| {
            let first = [(refused, "550 5.1.1 no such user")];
            first.into_iter().chain(TAKING).collect::<Vec<_>>()
        };
        let (taken, told) = converse(script("RCPT TO:<a@").leak()).await;
        let taken = taken.expect("it is sent");
        assert_eq!(taken.said, "250 taken");
        assert_eq!(taken.refused.len(), 1);
        assert!(taken.refused[0].starts_with("a@example.com: "), "{:?}", taken.refused);
        assert!(taken.refused[0].contains("no such user"), "{:?}", taken.refused);
        assert!(told.contains(&"RCPT TO:<b@example.org>".to_owned()), "{told:?}");
        let (taken, told) = converse(script("RCPT").leak()).await;
        let error = taken.expect_err("nobody is left");
        assert!(error.is::<Refused>(), "{error:#}");
        assert!(!told.contains(&"DATA".to_owned()), "{told:?}");
    }

    proptest! {
        #[test]
        fn no_title_adds_a_header_field(title: String, text: String) {
            let mail = formatted(&title, &text);
            let head = mail.split("\r\n\r\n").next().unwrap_or_default();
            let names = head.split("\r\n").filter(|line| !line.starts_with([' ', '\t']));
            prop_assert_eq!(names.count(), 8, "{}", head);
        }
    }
}
