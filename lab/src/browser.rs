//! A real browser in a namespace, driven by WebDriver (W3C recommendation, 2018).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::namespace::{Namespace, Process};
use crate::wait;

const DRIVER: &str = "http://127.0.0.1:9515";

/// Longest wait for a condition; generous, so that a busy machine fails nothing.
const LIMIT: Duration = Duration::from_secs(60);

/// Arguments without which Chromium asks for things that a namespace does not have.
const ARGUMENTS: [&str; 9] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
];

/// A headless Chromium. It ends when this is dropped.
#[derive(Debug)]
pub struct Browser {
    namespace: Arc<Namespace>,
    session: String,
    _driver: Process,
    _folder: TempDir,
}

impl Browser {
    /// Starts the browser.
    ///
    /// # Errors
    /// If Chromium or chromedriver are missing, or do not start.
    pub fn start(namespace: &Arc<Namespace>) -> Result<Browser> {
        let namespace = namespace.clone();
        let folder = tempfile::tempdir()?;
        let mut driver = namespace.command("chromedriver");
        driver.arg("--port=9515").env("HOME", folder.path());
        let driver = namespace.spawn(&mut driver).context("failed to start chromedriver")?;
        wait::until("chromedriver", LIMIT, || {
            let ready = namespace.run("curl", &["-s", &format!("{DRIVER}/status")]);
            Ok(ready.ok().filter(|answer| answer.contains("\"ready\":true")))
        })?;
        let data = format!("--user-data-dir={}", folder.path().join("data").display());
        let arguments: Vec<&str> = ARGUMENTS.into_iter().chain([&*data]).collect();
        let options = json!({ "binary": "/usr/bin/chromium", "args": arguments });
        let wanted = json!({
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let asked = json!({ "capabilities": { "alwaysMatch": wanted } });
        let answer = send(&namespace, "POST", "/session", Some(&asked))?;
        let session = answer["sessionId"].as_str().context("no session")?;
        let session = format!("/session/{session}");
        Ok(Browser { namespace, session, _driver: driver, _folder: folder })
    }

    fn ask(&self, path: &str, body: &Value) -> Result<Value> {
        send(&self.namespace, "POST", &format!("{}{path}", self.session), Some(body))
    }

    /// Opens a page.
    ///
    /// # Errors
    /// As the driver answers; so do all others.
    pub fn open(&self, url: &str) -> Result<()> {
        self.ask("/url", &json!({ "url": url })).map(drop)
    }

    /// Makes the screen as large as this, in pixels: smaller than a window could be, too.
    ///
    /// # Errors
    /// As the driver answers.
    pub fn resize(&self, width: u32, height: u32) -> Result<()> {
        let params =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        let command = json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": params });
        self.ask("/goog/cdp/execute", &command).map(drop)
    }

    /// Returns the value of a script.
    ///
    /// # Errors
    /// If it throws.
    pub fn run(&self, script: &str) -> Result<Value> {
        self.ask("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Returns the value of a script that is a promise.
    ///
    /// # Errors
    /// As the driver answers; what the promise is rejected with is its value.
    pub fn run_async(&self, script: &str) -> Result<Value> {
        let script =
            format!("const done = arguments[0]; ({script}).then(done, (e) => done(`${{e}}`))");
        self.ask("/execute/async", &json!({ "script": script, "args": [] }))
    }

    /// Waits until a script returns something true, and returns that.
    ///
    /// # Errors
    /// If it does not, with the text of the page.
    pub fn wait_for(&self, what: &str, script: &str) -> Result<Value> {
        let waited = wait::until(what, LIMIT, || {
            let value = self.run(&format!("return {script}"))?;
            let nothing = matches!(&value, Value::Null | Value::Bool(false));
            Ok((!nothing && value != "").then_some(value))
        });
        waited.with_context(|| self.text())
    }

    /// Clicks as a user does, who waits for what is hidden or covered for a moment.
    ///
    /// # Errors
    /// If it cannot be clicked.
    pub fn click(&self, selector: &str) -> Result<()> {
        wait::until(&format!("a click on {selector}"), LIMIT, || {
            let element = self.find(selector)?;
            match self.ask(&format!("/element/{element}/click"), &json!({})) {
                Err(error) if is_passing(&error) => Ok(None),
                clicked => clicked.map(Some),
            }
        })
        .map(drop)
    }

    /// Types a text into an element.
    ///
    /// # Errors
    /// If it takes none.
    pub fn write(&self, selector: &str, text: &str) -> Result<()> {
        let element = self.find(selector)?;
        self.ask(&format!("/element/{element}/value"), &json!({ "text": text })).map(drop)
    }

    /// Types on the element that has the focus.
    ///
    /// # Errors
    /// As the driver answers.
    pub fn press(&self, key: &str) -> Result<()> {
        let strokes = ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key }));
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": strokes });
        self.ask("/actions", &json!({ "actions": [keyboard] })).map(drop)
    }

    fn find(&self, selector: &str) -> Result<String> {
        let asked = json!({ "using": "css selector", "value": selector });
        let found = self.ask("/element", &asked)?;
        // Its only value is the reference.
        let mut values = found.as_object().into_iter().flat_map(|object| object.values());
        let reference = values.next().and_then(Value::as_str).context("no element")?;
        Ok(reference.to_owned())
    }

    /// Returns the text that a user sees.
    pub fn text(&self) -> String {
        let text = self.run("return document.body.innerText").unwrap_or_default();
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Returns the messages of the console since the last question.
    ///
    /// # Errors
    /// As the driver answers.
    pub fn console(&self) -> Result<Vec<String>> {
        let messages = self.ask("/se/log", &json!({ "type": "browser" }))?;
        let messages = messages.as_array().into_iter().flatten();
        Ok(messages.map(|message| message["message"].to_string()).collect())
    }

    /// Writes what the screen shows to a PNG file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn screenshot(&self, path: &Path) -> Result<()> {
        let path_of = format!("{}/screenshot", self.session);
        let picture = send(&self.namespace, "GET", &path_of, None)?;
        let picture = picture.as_str().context("no picture")?;
        let path = path.to_str().context("the path is no text")?;
        let decode = ["-c", "exec base64 -d > \"$0\"", path];
        self.namespace.run_with_input("sh", &decode, picture).map(drop)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Without that, the browser would outlive its driver.
        let url = format!("{DRIVER}{}", self.session);
        let _ = self.namespace.run("curl", &["-s", "-X", "DELETE", "--max-time", "20", &url]);
    }
}

fn send(namespace: &Namespace, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let url = format!("{DRIVER}{path}");
    let mut arguments = vec!["-sS", "--max-time", "60", "-X", method, &url];
    if body.is_some() {
        arguments.extend(["--data-binary", "@-"]);
    }
    let body = body.map(Value::to_string).unwrap_or_default();
    let answer = namespace.run_with_input("curl", &arguments, &body)?;
    let answer: Value =
        serde_json::from_str(&answer).with_context(|| format!("{path}: {answer}"))?;
    if !answer["value"]["error"].is_null() {
        bail!("{path}: {answer}");
    }
    Ok(answer["value"].clone())
}

/// Returns whether an element may take a click soon: it is hidden, covered, or was just drawn anew.
fn is_passing(error: &anyhow::Error) -> bool {
    let text = error.to_string();
    let passing = ["element not interactable", "click intercepted", "stale element"];
    passing.iter().any(|kind| text.contains(kind))
}
