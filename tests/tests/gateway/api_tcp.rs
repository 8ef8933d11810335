//! The API by TCP: what Prometheus reads, and whom it does not answer.

use std::fs;
use std::process::Stdio;

use linkbal_lab::topology::{Lab, UplinkSpec};
use linkbal_lab::wait;
use serde_json::{Value, json};

use crate::fixture::{Gateway, LIMIT};
use crate::hangs::threads;

pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef";
pub(crate) const AT: &str = "127.0.0.1:9480";

/// The three texts of a sample, as [`query`] returns them.
type Sample = (String, String, String);

/// Sends a request by curl in the gateway; returns the status code and the answer.
pub(crate) fn curl(gateway: &Gateway, path: &str, options: &[&str]) -> (u16, String) {
    let url = format!("http://{AT}{path}");
    let fixed = ["-sS", "--max-time", "20", "-w", "\n%{http_code}"];
    let arguments: Vec<&str> = fixed.iter().chain(options).copied().chain([&*url]).collect();
    let answer = gateway.lab.gateway.run("curl", &arguments).unwrap();
    let (text, code) = answer.rsplit_once('\n').unwrap();
    (code.parse().unwrap(), text.to_owned())
}

/// Starts a gateway that listens, with a token in `folder`.
pub(crate) fn start(folder: &tempfile::TempDir) -> Gateway {
    let token = folder.path().join("token");
    fs::write(&token, format!("{TOKEN}\n")).unwrap();
    let section = format!("[api]\nlisten = \"{AT}\"\ntoken_file = {token:?}\n");
    let gateway = Gateway::start(Lab::new(&UplinkSpec::pair()).unwrap(), |config| {
        format!("{config}{section}")
    });
    wait::until("the listener", LIMIT, || {
        let sockets = gateway.lab.gateway.run("ss", &["-Hltn"])?;
        Ok(sockets.contains(AT).then_some(()))
    })
    .unwrap();
    gateway
}

#[test]
fn who_may_connect_reads_and_who_has_the_token_changes() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = start(&folder);
    let (code, text) = curl(&gateway, "/v1/status", &[]);
    let status: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &status["uplinks"][0]["name"]), (200, &"isp-a".into()));
    for (header, wanted) in [
        ("Host: evil.example", "evil.example"),
        ("Origin: http://evil.example", "evil.example"),
        ("Origin: null", "null"),
    ] {
        let (code, text) = curl(&gateway, "/v1/status", &["-H", header]);
        assert_eq!(code, 403, "{header}: {text}");
        assert!(text.contains(wanted), "{header}: {text}");
    }
    let drain = "/v1/uplinks/isp-a/drain";
    let (code, text) = curl(&gateway, drain, &["-X", "POST"]);
    assert_eq!(code, 401, "{text}");
    assert!(text.contains("token_file"), "{text}");
    assert_eq!(gateway.daemon.status().unwrap()["uplinks"][0]["admin"], "enabled");
    let token = format!("Authorization: Bearer {TOKEN}");
    let (code, text) = curl(&gateway, drain, &["-X", "POST", "-H", &token]);
    assert_eq!(code, 200, "{text}");
    assert_eq!(gateway.daemon.status().unwrap()["uplinks"][0]["admin"], "drained");
    // A line of the file may have a secret.
    let config = gateway.daemon.config_path();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}[notify.x]\nurl = \"https://hunter2\"\nwrong = 1\n"))
        .unwrap();
    gateway.daemon.run(&["reload"]).unwrap_err();
    let refused = |options: &[&str]| {
        let status: Value = serde_json::from_str(&curl(&gateway, "/v1/status", options).1).unwrap();
        status["configuration"]["refused"]["error"].as_str().unwrap().to_owned()
    };
    let place = format!("{}:", config.display());
    let public = refused(&[]);
    assert!(
        public.starts_with(&place) && public.contains(": `linkbal check` says why"),
        "{public}"
    );
    let events = curl(&gateway, "/v1/events", &[]).1;
    assert!(!public.contains("hunter2") && !events.contains("hunter2"), "{public} {events}");
    let whole = gateway.daemon.status().unwrap()["configuration"]["refused"]["error"].clone();
    assert!(whole.as_str().unwrap().contains("hunter2"), "{whole}");
    assert_eq!(refused(&["-H", &token]), whole);
    // Without the section, nothing listens.
    fs::write(&config, text.split_once("[api]").unwrap().0).unwrap();
    gateway.daemon.run(&["reload"]).unwrap();
    wait::until("nobody listening", LIMIT, || {
        let sockets = gateway.lab.gateway.run("ss", &["-Hltn"])?;
        Ok((!sockets.contains(AT)).then_some(()))
    })
    .unwrap();
}

/// Returns the number of connections that the daemon holds by TCP.
fn connections(gateway: &Gateway) -> usize {
    let filter = ["-Htn", "state", "established", "sport", "=", ":9480"];
    gateway.lab.gateway.run("ss", &filter).unwrap().lines().count()
}

#[test]
fn followers_that_vanish_keep_nobody_out() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = start(&folder);
    let token = format!("Authorization: Bearer {TOKEN}");
    let follow = || {
        let mut curl = gateway.lab.gateway.command("curl");
        curl.args(["-sSN", "-H", &token]).arg(format!("http://{AT}/v1/flows?follow=true"));
        gateway.lab.gateway.spawn(curl.stdout(Stdio::null())).unwrap()
    };
    let followers = [(); 4].map(|()| follow());
    let asked = || curl(&gateway, "/v1/flows", &["-H", &token]);
    let reading = || threads(&gateway.daemon, "flows");
    wait::until("the followers", LIMIT, || Ok((reading() == 4).then_some(()))).unwrap();
    assert_eq!(asked().0, 503);
    // Root has places of its own by the socket.
    gateway.daemon.run(&["flows"]).unwrap();
    // Nothing that they send arrives any more.
    let nft = |text: &str| gateway.lab.gateway.run("nft", &text.split(' ').collect::<Vec<_>>());
    nft("add table inet vanished").unwrap();
    nft("add chain inet vanished input { type filter hook input priority 0 ; }").unwrap();
    nft("add rule inet vanished input iif lo tcp dport 9480 drop").unwrap();
    wait::until("an end", LIMIT, || Ok((connections(&gateway) == 0).then_some(()))).unwrap();
    nft("delete table inet vanished").unwrap();
    wait::until("a place", LIMIT, || Ok((asked().0 == 200).then_some(()))).unwrap();
    drop(followers);
}

/// Returns the samples of a query to Prometheus: uplink, family and value.
fn query(gateway: &Gateway, query: &str) -> Vec<Sample> {
    let url = format!("http://127.0.0.1:9090/api/v1/query?query={query}");
    let answer = gateway.lab.gateway.run("curl", &["-s", "--max-time", "20", &url]);
    let answer: Value =
        answer.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let samples = answer["data"]["result"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let sample = |sample: &Value| {
        let labels = &sample["metric"];
        (text(&labels["uplink"]), text(&labels["family"]), text(&sample["value"][1]))
    };
    samples.iter().map(sample).collect()
}

/// Returns the path of a file that is shipped.
fn shipped(file: &str) -> String {
    format!("{}/../dist/{file}", env!("CARGO_MANIFEST_DIR"))
}

/// Returns the queries of the dashboard, with values for its variables.
fn dashboard_queries() -> Vec<String> {
    let text = fs::read_to_string(shipped("grafana/linkbal.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let query = |target: &Value| {
        let query = target["expr"].as_str().unwrap().replace("$__rate_interval", "1m");
        query.replace("$job", "linkbal").replace("$instance", "gateway")
    };
    targets.map(query).collect()
}

#[test]
fn the_alerts_and_the_dashboard_ask_for_metrics_that_exist() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = start(&folder);
    let (_, metrics) = curl(&gateway, "/metrics", &[]);
    let described = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let described: Vec<&str> = described.filter_map(|line| line.split(' ').next()).collect();
    let queries = dashboard_queries();
    assert!(queries.len() > 10, "{queries:?}");
    let rules = fs::read_to_string(shipped("prometheus/linkbal.rules.yml")).unwrap();
    let asked = format!("{}\n{rules}", queries.join("\n"));
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let names = asked.split(|letter| !is_part(letter)).filter(|name| name.starts_with("linkbal_"));
    let names: Vec<&str> = names.map(|name| name.trim_end_matches("_bucket")).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(described.contains(&name), "{name} is not in\n{metrics}");
    }
    let promtool = |arguments: &[&str]| gateway.lab.gateway.run("promtool", arguments).unwrap();
    promtool(&["check", "rules", &shipped("prometheus/linkbal.rules.yml")]);
    promtool(&["test", "rules", &shipped("prometheus/linkbal.test.yml")]);
    let records = queries
        .iter()
        .enumerate()
        .map(|(number, query)| json!({ "record": format!("query:{number}"), "expr": query }));
    let records: Vec<Value> = records.collect();
    // JSON is YAML.
    let file = folder.path().join("dashboard.yml");
    let group = json!({ "groups": [{ "name": "dashboard", "rules": records }] });
    fs::write(&file, group.to_string()).unwrap();
    promtool(&["check", "rules", &file.display().to_string()]);
}

#[test]
fn prometheus_reads_the_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = start(&folder);
    let (code, text) = curl(&gateway, "/metrics", &[]);
    assert_eq!(code, 200, "{text}");
    // It fails for names against the conventions, too.
    gateway.lab.gateway.run_with_input("promtool", &["check", "metrics"], &text).unwrap();
    let config = folder.path().join("prometheus.yml");
    let scrape = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - job_name: linkbal\n    \
         static_configs: [{{ targets: [\"{AT}\"] }}]\n"
    );
    fs::write(&config, scrape).unwrap();
    let mut prometheus = gateway.lab.gateway.command("prometheus");
    let data = folder.path().join("data");
    prometheus.arg(format!("--config.file={}", config.display()));
    prometheus.arg(format!("--storage.tsdb.path={}", data.display()));
    prometheus.arg("--web.listen-address=127.0.0.1:9090").arg("--log.level=error");
    let _prometheus = gateway.lab.gateway.spawn(&mut prometheus).unwrap();
    let wait_for = |what: &str, asked: &str, enough: &dyn Fn(&[Sample]) -> bool| {
        wait::until(what, LIMIT, || Ok(enough(&query(&gateway, asked)).then_some(()))).unwrap();
    };
    wait_for("both uplinks up", "linkbal_uplink_up", &|samples| {
        samples.len() == 4 && samples.iter().all(|(_, _, value)| value == "1")
    });
    wait_for("answers to probes", "linkbal_uplink_probe_rtt_seconds_count>0", &|samples| {
        samples.len() == 4
    });
    gateway.assert_uplinks(10, &[0, 1]);
    wait_for("their flows", "linkbal_uplink_flows_total>0", &|samples| samples.len() == 2);
    gateway.lab.cut_cable(0).unwrap();
    wait_for("the first one down", "linkbal_uplink_up==0", &|samples| {
        samples.len() == 2 && samples.iter().all(|(uplink, _, _)| uplink == "isp-a")
    });
}

#[test]
fn another_token_ends_what_the_former_one_allowed_and_a_reload_alone_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = start(&folder);
    let mut follower = gateway.lab.gateway.command("curl");
    follower.args(["-sN", "-H", "Accept: text/event-stream", &format!("http://{AT}/v1/events")]);
    let _follower = gateway.lab.gateway.spawn(&mut follower).unwrap();
    let followers = || {
        let sockets = gateway.lab.gateway.run("ss", &["-Htn", "state", "established"])?;
        Ok::<_, anyhow::Error>(sockets.lines().filter(|line| line.contains(AT)).count())
    };
    wait::until("the follower", LIMIT, || Ok((followers()? > 0).then_some(()))).unwrap();
    let before = followers().unwrap();
    for _ in 0..3 {
        gateway.daemon.run(&["reload"]).unwrap();
        assert_eq!(curl(&gateway, "/v1/status", &[]).0, 200);
        assert_eq!(followers().unwrap(), before);
    }
    let other = TOKEN.replace('0', "x");
    fs::write(folder.path().join("token"), &other).unwrap();
    gateway.daemon.run(&["reload"]).unwrap();
    wait::until("the end of the stream", LIMIT, || Ok((followers()? == 0).then_some(()))).unwrap();
    for (token, wanted) in [(TOKEN, 401), (&other, 200)] {
        let header = format!("Authorization: Bearer {token}");
        assert_eq!(curl(&gateway, "/v1/configuration", &["-H", &header]).0, wanted);
    }
}
