//! A real browser in the gateway's namespace, driven by WebDriver (W3C recommendation, 2018).

use std::sync::Arc;

use linkbal_lab::namespace::{Namespace, Process};
use linkbal_lab::wait;
use serde_json::{Value, json};

use crate::fixture::LIMIT;

const DRIVER: &str = "http://127.0.0.1:9515";

/// Arguments without which Chromium asks for things that a namespace does not have.
const ARGUMENTS: [&str; 8] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
];

pub(super) struct Browser {
    namespace: Arc<Namespace>,
    session: String,
    _driver: Process,
    _folder: tempfile::TempDir,
}

impl Browser {
    pub(super) fn start(namespace: &Arc<Namespace>) -> Self {
        let namespace = namespace.clone();
        let folder = tempfile::tempdir().unwrap();
        let mut driver = namespace.command("chromedriver");
        driver.arg("--port=9515").env("HOME", folder.path());
        let driver = namespace.spawn(&mut driver).unwrap();
        wait::until("chromedriver", LIMIT, || {
            let ready = namespace.run("curl", &["-s", &format!("{DRIVER}/status")]);
            Ok(ready.ok().filter(|answer| answer.contains("\"ready\":true")))
        })
        .unwrap();
        let data = format!("--user-data-dir={}", folder.path().join("data").display());
        let arguments: Vec<&str> = ARGUMENTS.into_iter().chain([&*data]).collect();
        let options = json!({ "binary": "/usr/bin/chromium", "args": arguments });
        let wanted = json!({
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let asked = json!({ "capabilities": { "alwaysMatch": wanted } });
        let answer = send(&namespace, "POST", "/session", Some(&asked));
        let session = format!("/session/{}", answer["sessionId"].as_str().unwrap());
        Browser { namespace, session, _driver: driver, _folder: folder }
    }

    fn ask(&self, path: &str, body: &Value) -> Value {
        send(&self.namespace, "POST", &format!("{}{path}", self.session), Some(body))
    }

    pub(super) fn open(&self, url: &str) {
        self.ask("/url", &json!({ "url": url }));
    }

    pub(super) fn resize(&self, width: u32, height: u32) {
        self.ask("/window/rect", &json!({ "width": width, "height": height }));
    }

    /// Returns the value of a script.
    pub(super) fn run(&self, script: &str) -> Value {
        self.ask("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Returns the value of a script that is a promise.
    pub(super) fn run_async(&self, script: &str) -> Value {
        let script =
            format!("const done = arguments[0]; ({script}).then(done, (e) => done(`${{e}}`))");
        self.ask("/execute/async", &json!({ "script": script, "args": [] }))
    }

    /// Waits until a script returns something true, and returns that.
    pub(super) fn wait_for(&self, what: &str, script: &str) -> Value {
        wait::until(what, LIMIT, || {
            let value = self.run(&format!("return {script}"));
            let nothing = matches!(&value, Value::Null | Value::Bool(false));
            Ok((!nothing && value != "").then_some(value))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", self.text()))
    }

    /// Clicks as a user does: what is hidden or covered cannot be clicked.
    pub(super) fn click(&self, selector: &str) {
        let element = self.find(selector);
        self.ask(&format!("/element/{element}/click"), &json!({}));
    }

    pub(super) fn write(&self, selector: &str, text: &str) {
        let element = self.find(selector);
        self.ask(&format!("/element/{element}/value"), &json!({ "text": text }));
    }

    fn find(&self, selector: &str) -> String {
        let asked = json!({ "using": "css selector", "value": selector });
        let found = self.ask("/element", &asked);
        // Its only value is the reference.
        let mut values = found.as_object().unwrap().values();
        values.next().and_then(Value::as_str).unwrap().to_owned()
    }

    /// Returns the text that a user sees.
    pub(super) fn text(&self) -> String {
        self.run("return document.body.innerText").as_str().unwrap_or_default().to_owned()
    }

    /// Returns the messages of the console since the last question.
    pub(super) fn console(&self) -> Vec<String> {
        let messages = self.ask("/se/log", &json!({ "type": "browser" }));
        let messages = messages.as_array().unwrap().iter();
        messages.map(|message| message["message"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Without that, the browser would outlive its driver.
        let url = format!("{DRIVER}{}", self.session);
        let _ = self.namespace.run("curl", &["-s", "-X", "DELETE", "--max-time", "20", &url]);
    }
}

fn send(namespace: &Namespace, method: &str, path: &str, body: Option<&Value>) -> Value {
    let url = format!("{DRIVER}{path}");
    let fixed = ["-sS", "--max-time", "60", "-X", method, "--data-binary", "@-", &url];
    let body = body.map(Value::to_string).unwrap_or_default();
    let answer = namespace.run_with_input("curl", &fixed, &body).unwrap();
    let answer: Value =
        serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{path}: {answer}"));
    assert!(answer["value"]["error"].is_null(), "{path}: {answer}");
    answer["value"].clone()
}
