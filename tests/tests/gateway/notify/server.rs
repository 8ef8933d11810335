//! Servers that take messages, and remember who brought them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use linkbal_lab::namespace::Namespace;

/// A message as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// The address that it came from.
    pub(crate) from: IpAddr,
    /// Lines of the client for a mail, head and body for a request.
    pub(crate) text: String,
}

/// The messages that a server has taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mailbox(Arc<Mutex<Vec<Received>>>);

impl Mailbox {
    /// Returns the messages so far.
    pub(crate) fn all(&self) -> Vec<Received> {
        self.0.lock().unwrap().clone()
    }
}

/// Starts a mail server without encryption at all addresses of a namespace.
pub(crate) fn smtp(namespace: &Namespace, port: u16) -> Mailbox {
    serve(namespace, port, take_mail)
}

/// Starts a server that answers each request by HTTP with 200.
pub(crate) fn http(namespace: &Namespace, port: u16) -> Mailbox {
    serve(namespace, port, take_request)
}

fn serve(
    namespace: &Namespace,
    port: u16,
    take: fn(TcpStream) -> std::io::Result<String>,
) -> Mailbox {
    let entered = namespace.enter().unwrap();
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
    drop(entered);
    let mailbox = Mailbox::default();
    let taken = mailbox.clone();
    // It ends with the test's process.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let from = stream.peer_addr().unwrap().ip().to_canonical();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            if let Ok(text) = take(stream) {
                taken.0.lock().unwrap().push(Received { from, text });
            }
        }
    });
    mailbox
}

/// Takes one mail (RFC 5321); it counts once the client knows that it was taken.
fn take_mail(stream: TcpStream) -> std::io::Result<String> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    writer.write_all(b"220 test\r\n")?;
    let (mut text, mut in_data, mut taken) = (String::new(), false, false);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            break;
        }
        text += &line;
        let answer: &[u8] = match (in_data, line.trim_end()) {
            (true, ".") => {
                (in_data, taken) = (false, true);
                b"250 taken\r\n"
            }
            (true, _) => continue,
            (false, "DATA") => {
                in_data = true;
                b"354 go on\r\n"
            }
            (false, "QUIT") => break,
            (false, hello) if hello.starts_with("EHLO") => b"250-test\r\n250 8BITMIME\r\n",
            (false, _) => b"250 fine\r\n",
        };
        writer.write_all(answer)?;
    }
    if taken { Ok(text) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}

fn take_request(stream: TcpStream) -> std::io::Result<String> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    let (mut text, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
        text += &line;
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
    Ok(text + std::str::from_utf8(&body).unwrap())
}
