//! Servers in the foreground of a namespace, each with its files in a folder of its own.

use std::fs::{self, File, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use linkbal_lab::namespace::{Namespace, Process};
use linkbal_lab::wait;
use tempfile::TempDir;

use crate::fixture::LIMIT;

/// Bytes of the file `/big` of an [`nginx`].
pub(crate) const BIG: usize = 1 << 20;

/// A running server; dropping it kills it, and removes its folder then.
pub(crate) struct Server {
    _process: Process,
    _folder: TempDir,
}

/// Starts nginx on a port of all addresses: `/` and the header `Seen` tell the client's address.
pub(crate) fn nginx(namespace: &Namespace, port: u16) -> Server {
    let lines = format!(
        "listen {port} backlog=1024; listen [::]:{port} backlog=1024; root .;
        location = / {{ return 200 \"$remote_addr\\n\"; }}
        location = /big {{ add_header Seen $remote_addr; }}"
    );
    nginx_with(namespace, port, &lines, &[("big", &"x".repeat(BIG))])
}

/// Starts nginx with `lines` in its one server, which must listen on a port, and with files.
pub(crate) fn nginx_with(
    namespace: &Namespace,
    port: u16,
    lines: &str,
    files: &[(&str, &str)],
) -> Server {
    let folder = folder();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|name| format!("{name}_temp_path {name};")).concat();
    let config = format!(
        "daemon off; master_process off; pid pid; error_log stderr;
        events {{ }}
        http {{ access_log off; {temporary} server {{ {lines} }} }}"
    );
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    start(namespace, "nginx", &["-e", "stderr", "-p", ".", "-c", "config"], folder, &config, port)
}

/// Starts Squid as a proxy for everyone, on one address, without a cache and without a resolver.
pub(crate) fn squid(namespace: &Namespace, address: IpAddr, port: u16) -> Server {
    let config = format!(
        "http_port {address}:{port}
        http_access allow all
        cache deny all
        cache_mem 0
        memory_cache_shared off
        # Each request shall be a connection.
        server_persistent_connections off
        access_log none
        cache_log /dev/null
        netdb_filename none
        pid_filename none
        pinger_enable off
        hosts_file none
        dns_nameservers 127.0.0.1
        visible_hostname gateway
        max_filedescriptors 1024
        "
    );
    let folder = folder();
    let shared = folder.path().join("shared");
    fs::create_dir(&shared).unwrap();
    // It drops root's rights.
    fs::set_permissions(&shared, Permissions::from_mode(0o777)).unwrap();
    // Its shared memory has a name that a Squid of the machine has, too. No daemon, and errors on
    // standard error.
    let script = "mount --bind shared /dev/shm && exec squid -N -d 1 -f config";
    start(namespace, "unshare", &["--mount", "sh", "-c", script], folder, &config, port)
}

/// Starts an iperf3 that reports in JSON.
pub(crate) fn iperf3(namespace: &Namespace, port: u16) -> Server {
    let number = port.to_string();
    start(namespace, "iperf3", &["--server", "--json", "--port", &number], folder(), "", port)
}

fn folder() -> TempDir {
    TempDir::with_prefix("linkbal-lab-").unwrap()
}

/// Starts a program in its folder, where the file `config` is; returns when it listens.
fn start(
    namespace: &Namespace,
    program: &str,
    args: &[&str],
    folder: TempDir,
    config: &str,
    port: u16,
) -> Server {
    fs::write(folder.path().join("config"), config).unwrap();
    let log_path = folder.path().join("log");
    let log = File::create(&log_path).unwrap();
    let mut command = namespace.command(program);
    command.args(args).current_dir(&folder).stdin(Stdio::null());
    command.stdout(log.try_clone().unwrap()).stderr(log);
    let mut process = namespace.spawn(&mut command).unwrap();
    let listening = wait::until("a listening server", LIMIT, || {
        assert!(process.ended()?.is_none(), "{program} ended: {}", read(&log_path));
        Ok(listens(process.id(), port).then_some(()))
    });
    listening.unwrap_or_else(|error| panic!("{program}: {error:#}: {}", read(&log_path)));
    Server { _process: process, _folder: folder }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Returns whether a TCP socket listens on a port in the namespace of a process (proc_net_tcp.rst
/// of the kernel).
fn listens(process: u32, port: u16) -> bool {
    const LISTEN: &str = "0A";
    ["tcp", "tcp6"].into_iter().any(|file| {
        let sockets = read(&Path::new("/proc").join(process.to_string()).join("net").join(file));
        sockets.lines().any(|line| {
            let mut words = line.split_whitespace().skip(1);
            let local = words.next().unwrap_or_default();
            local.ends_with(&format!(":{port:04X}")) && words.nth(1) == Some(LISTEN)
        })
    })
}
