//! The browser of the lab, whose failures end a test.

use std::sync::Arc;

use linkbal_lab::browser;
use linkbal_lab::namespace::Namespace;
use serde_json::Value;

pub(super) struct Browser(browser::Browser);

impl Browser {
    pub(super) fn start(namespace: &Arc<Namespace>) -> Self {
        Browser(browser::Browser::start(namespace).unwrap())
    }

    pub(super) fn open(&self, url: &str) {
        self.0.open(url).unwrap();
    }

    pub(super) fn resize(&self, width: u32, height: u32) {
        self.0.resize(width, height).unwrap();
    }

    pub(super) fn run(&self, script: &str) -> Value {
        self.0.run(script).unwrap()
    }

    pub(super) fn run_async(&self, script: &str) -> Value {
        self.0.run_async(script).unwrap()
    }

    pub(super) fn wait_for(&self, what: &str, script: &str) -> Value {
        self.0.wait_for(what, script).unwrap_or_else(|error| panic!("{error:#}"))
    }

    pub(super) fn click(&self, selector: &str) {
        self.0.click(selector).unwrap();
    }

    pub(super) fn write(&self, selector: &str, text: &str) {
        self.0.write(selector, text).unwrap();
    }

    pub(super) fn press(&self, key: &str) {
        self.0.press(key).unwrap();
    }

    pub(super) fn console(&self) -> Vec<String> {
        self.0.console().unwrap()
    }
}
