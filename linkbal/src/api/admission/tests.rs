use std::{
    io::{ErrorKind, Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream as Client},
};

use tempfile::{TempDir, tempdir};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::{engine::Report, events::journal::Journal, sys::host::thread};

/// Starts an API without a daemon behind it, which only has events.
fn served() -> (TempDir, std::path::PathBuf) {
    served_with(Journal::default())
}

fn served_with(journal: Journal) -> (TempDir, std::path::PathBuf) {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("sock");
    let (ready, opened) = std::sync::mpsc::channel();
    let at = path.clone();
    let serve = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let (requests, _) = crate::api::serve(&at, journal);
            ready.send(()).expect("somebody waits");
            std::future::pending::<()>().await;
            drop(requests);
        });
    };
    thread::start("api", serve).expect("a thread");
    opened.recv().expect("it is served");
    (folder, path)
}

fn client(path: &Path) -> Client {
    let client = Client::connect(path).expect("connected");
    client.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
    client
}

fn get(client: &mut Client, what: &str) {
    write!(client, "GET {what} HTTP/1.1\r\nhost: linkbal\r\n\r\n").expect("sent");
}

fn follow(client: &mut Client) {
    let accept = "accept: text/event-stream";
    write!(client, "GET /v1/events HTTP/1.1\r\nhost: linkbal\r\n{accept}\r\n\r\n").expect("sent");
}

/// Reads everything up to the end.
fn read(client: &mut Client) -> String {
    let mut bytes = Vec::new();
    match client.read_to_end(&mut bytes) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("no end: {error}"),
        Ok(_) | Err(_) => String::from_utf8_lossy(&bytes).into_owned(),
    }
}

/// Returns whether the server still holds a connection on which nothing was sent.
fn is_held(client: &Client) -> bool {
    client.set_nonblocking(true).expect("set");
    let read = (&*client).read(&mut [0]);
    client.set_nonblocking(false).expect("set");
    read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn idle_clients_make_room_and_are_closed() {
    let (_folder, path) = served();
    let mut idle: Vec<Client> = (0..400).map(|_| client(&path)).collect();
    // A request is answered at once, whatever the other clients do.
    let mut asking = client(&path);
    get(&mut asking, "/v1/events");
    assert!(read(&mut asking).starts_with("HTTP/1.1 200"));
    let held = idle.iter().filter(|client| is_held(client)).count();
    assert!(held < MAX_CONNECTIONS, "{held} idle clients are held");
    for client in &mut idle {
        // Closed without an answer, or with one that its time is over.
        let said = read(client);
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
    }
}

#[test]
fn a_request_that_trickles_in_or_has_no_end_is_closed() {
    let (_folder, path) = served();
    let mut slow = client(&path);
    slow.write_all(b"GET /v1/events HTTP/1.1\r\n").expect("sent");
    let mut long = client(&path);
    let line = format!("x: {}\r\n", "y".repeat(1000));
    let head = format!("GET /v1/events HTTP/1.1\r\n{}", line.repeat(MAX_HEAD / 500));
    // It may be closed while we send.
    let _ = long.write_all(head.as_bytes());
    let said = read(&mut long);
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}");
    let mut many = client(&path);
    let _ = write!(many, "GET /v1/events HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(MAX_HEADERS + 1));
    assert!(read(&mut many).starts_with("HTTP/1.1 4"));
    // A body that is announced and never comes holds nothing up.
    let mut body = client(&path);
    write!(body, "GET /v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n")
        .expect("ok");
    assert!(read(&mut body).starts_with("HTTP/1.1 200"));
    let said = read(&mut slow);
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
}

#[test]
fn streams_leave_room_for_questions() {
    let (_folder, path) = served();
    let mut streams: Vec<Client> = (0..MAX_STREAMS).map(|_| client(&path)).collect();
    for stream in &mut streams {
        follow(stream);
        let mut head = [0; 12];
        stream.read_exact(&mut head).expect("a head");
        assert_eq!(&head, b"HTTP/1.1 200");
    }
    let mut one_more = client(&path);
    follow(&mut one_more);
    let said = read(&mut one_more);
    assert!(said.starts_with("HTTP/1.1 503") && said.contains(TOO_MANY_STREAMS), "{said}");
    let mut asking = client(&path);
    get(&mut asking, "/v1/events");
    assert!(read(&mut asking).starts_with("HTTP/1.1 200"));
    // A place is free again once its reader has disconnected.
    drop(streams.pop());
    let answered = (0..500).any(|_| {
        let mut next = client(&path);
        follow(&mut next);
        let mut head = [0; 12];
        next.read_exact(&mut head).expect("a head");
        std::thread::sleep(Duration::from_millis(10));
        &head == b"HTTP/1.1 200"
    });
    assert!(answered);
}

/// Sends more than the buffer of a socket in the kernel holds, some hundred kilobytes.
#[test]
fn a_reader_that_takes_nothing_is_closed() {
    let journal = Journal::default();
    let long = Report::Lan { interface: "x".repeat(5000), exists: true };
    (0..1000).for_each(|_| drop(journal.record(&long, std::time::SystemTime::UNIX_EPOCH)));
    let (_folder, path) = served_with(journal);
    let mut whole = client(&path);
    get(&mut whole, "/v1/events");
    let whole = read(&mut whole).len();
    assert!(whole > 5_000_000, "{whole} bytes");
    let mut stalled: Vec<Client> = (0..MAX_STREAMS).map(|_| client(&path)).collect();
    stalled.iter_mut().for_each(follow);
    // All places for streams are taken by readers that do not read, until they are closed for that.
    // As many further requests are then answered, each in a place that was freed.
    let freed = (0..6000).filter_map(|_| {
        let mut next = client(&path);
        follow(&mut next);
        let mut head = [0; 12];
        next.read_exact(&mut head).expect("a head");
        std::thread::sleep(Duration::from_millis(10));
        (&head == b"HTTP/1.1 200").then(|| {
            // This one reads on and on.
            thread::start("reader", move || io::copy(&mut next, &mut io::sink()))
        })
    });
    assert_eq!(freed.take(MAX_STREAMS).count(), MAX_STREAMS, "not all places were freed");
    for client in &mut stalled {
        let got = read(client).len();
        assert!(got < whole, "{got} of {whole} bytes");
    }
}

#[test]
fn the_socket_has_its_mode_before_anybody_gets_in() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("sock");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let _guard = runtime.as_ref().expect("a runtime").enter();
    let _listener = open(&path).expect("a socket");
    let mode = fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o7777, SOCKET_MODE);
}

impl Stream for tokio::io::DuplexStream {
    fn write_now(&self, _: &[u8]) -> io::Result<usize> {
        Ok(0)
    }
}

/// Returns the answer to a request that takes half a second.
async fn answer_within(limits: [u64; 2], request: &str) -> String {
    let router = Router::new().fallback(async || sleep(Duration::from_millis(500)).await);
    let (stream, mut client) = tokio::io::duplex(1 << 16);
    let mut pool = Pool::default();
    let [usual, reload] = limits.map(Duration::from_millis);
    pool.limits = Limits { usual, reload };
    pool.admit(stream, &router);
    let head = format!("{request} HTTP/1.1\r\nhost: linkbal\r\n\r\n");
    client.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("an end");
    answer
}

#[tokio::test]
async fn another_configuration_may_take_longer_than_other_answers() {
    for path in ["reload?confirm=60", "configuration/try?confirm=60", "confirm", "undo"] {
        let request = format!("POST /v1/{path}");
        let answer = answer_within([20, 60_000], &request).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        assert_eq!(answer_within([20, 40], &request).await, "", "{path}");
    }
    for request in ["GET /v1/status", "GET /v1/reload"] {
        assert_eq!(answer_within([20, 60_000], request).await, "", "{request}");
    }
}
