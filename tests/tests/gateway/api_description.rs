//! The API against its own description: schemathesis makes requests of it, valid ones and others, and
//! compares each answer.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::api_tcp::{AT, TOKEN, curl, start};
use crate::fixture::{Gateway, installed, text};

/// Requests that are left out: a drill has an answer that lasts, and takes an uplink away meanwhile. So does
/// `follow`, which the hooks take out. All others can only change what the end of the test sets right.
const LEFT_OUT: [&str; 1] = ["/v1/uplinks/{name}/drill"];

/// Longest time for all, in seconds: then it counts as a failure.
const LIMIT_S: &str = "240";

/// Runs schemathesis in the gateway, with a folder for what it writes. Its configuration says which checks it
/// leaves out.
fn run(gateway: &Gateway, document: &Path, folder: &Path) -> Output {
    let mut command: Command = gateway.lab.gateway.command("timeout");
    let files = format!("{}/python", env!("CARGO_MANIFEST_DIR"));
    command.arg(LIMIT_S).arg(installed("bin/schemathesis"));
    command.arg("--config-file").arg(format!("{files}/schemathesis.toml"));
    command.arg("run").arg(document);
    command.args(["--url", &format!("http://{AT}"), "--phases", "examples,coverage,fuzzing"]);
    command.args(["--max-examples", "15", "--seed", "1", "--workers", "1"]);
    command.args(["--header", &format!("Authorization: Bearer {TOKEN}")]);
    command.args([
        "--request-timeout",
        "20",
        "--request-retries",
        "3",
        "--suppress-health-check",
        "all",
        "--no-color",
    ]);
    command.args(["--continue-on-failure", "--warnings", "off"]);
    for path in LEFT_OUT {
        command.args(["--exclude-path", path]);
    }
    command.env("PYTHONPATH", files).env("SCHEMATHESIS_HOOKS", "hooks");
    command.env("PYTHONDONTWRITEBYTECODE", "1").current_dir(folder);
    command.output().unwrap()
}

#[test]
fn answers_are_as_described_whatever_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = start(&folder);
    let token = format!("Authorization: Bearer {TOKEN}");
    let (code, _) = curl(&gateway, "/v1/openapi.json", &[]);
    assert_eq!(code, 401);
    let (code, document) = curl(&gateway, "/v1/openapi.json", &["-H", &token]);
    assert_eq!(code, 200, "{document}");
    let path = folder.path().join("openapi.json");
    std::fs::write(&path, &document).unwrap();
    let output = run(&gateway, &path, folder.path());
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}\n{}\n{}", text(&output.stderr), gateway.daemon.log());
    println!("{said}");
    // Whatever was asked, the gateway goes on, with the uplinks that it had.
    gateway.daemon.check_running().unwrap();
    assert!(!gateway.daemon.log().contains("panicked"), "{}", gateway.daemon.log());
    for uplink in ["isp-a", "isp-b"] {
        gateway.daemon.run(&["enable", uplink, "--now"]).unwrap();
    }
    gateway.wait_for_uplinks(&[0, 1]);
    let described: Value = serde_json::from_str(&document).unwrap();
    let paths = described["paths"].as_object().unwrap();
    assert!(LEFT_OUT.iter().all(|path| paths.contains_key(*path)), "{paths:?}");
}
