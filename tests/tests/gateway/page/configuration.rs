//! The configuration in the page: problems at their places, and trials.

use std::fs;

use linkbal_lab::wait;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::browser::Browser;
use super::{PAGE, assert_no_errors, give_token, start};
use crate::fixture::{Gateway, LIMIT, linkbal, text};

/// Keys in WebDriver.
const ESCAPE: &str = "\u{e00c}";
const TAB: &str = "\u{e004}";

fn file(gateway: &Gateway) -> String {
    fs::read_to_string(gateway.daemon.config_path()).unwrap()
}

fn open(browser: &Browser) {
    browser.open(&format!("{PAGE}#configuration"));
    browser.wait_for("a status", "document.querySelector('#link-state').dataset.live === 'true'");
}

fn edited(browser: &Browser) -> String {
    browser.run("return document.querySelector('#conf-text').value").as_str().unwrap().to_owned()
}

/// Puts a text into the editor, as an edit of the user.
fn edit(browser: &Browser, text: &str) {
    let text = Value::from(text);
    browser.run(&format!(
        "const field = document.querySelector('#conf-text'); field.value = {text}; \
         field.dispatchEvent(new Event('input'))"
    ));
}

fn said(browser: &Browser, what: &str) {
    let script = "document.querySelector('#conf-said').innerText";
    browser.wait_for(what, &format!("{script}.includes({})", Value::from(what)));
}

/// Begins a trial of the text in the editor, and waits for its countdown.
fn try_it(browser: &Browser, limit: u32) {
    browser.run(&format!(
        "const one = document.querySelector('#conf-limit option'); one.value = {limit}; \
         one.selected = true"
    ));
    browser.click("#conf-try");
    browser.wait_for("the question", "document.querySelector('#ask').open");
    browser.click("#ask-yes");
    browser.wait_for("the trial", "!document.querySelector('#trial').hidden");
}

fn wait_for_no_trial(browser: &Browser) {
    browser.wait_for("the end of the trial", "document.querySelector('#trial').hidden");
}

/// Shows everything that the section can: a trial, and a text with a problem.
pub(super) fn show_all(browser: &Browser) {
    browser.wait_for("the editor", "document.querySelector('#conf-text').value");
    let text = edited(browser);
    edit(browser, &text.replace("weight = 30", "weight = 31"));
    try_it(browser, 600);
    browser.wait_for("what differs", "document.querySelector('#conf-changes .added')");
    edit(browser, &text.replace("weight = 30", "wait = 31"));
    browser.click("#conf-check");
    said(browser, "cannot be used");
    browser.click("#conf-problems button");
}

/// Waits until isp-a has this weight, by the daemon's own account.
fn wait_for_weight(gateway: &Gateway, weight: u64) {
    wait::until("the weight in force", LIMIT, || {
        let status = gateway.daemon.status()?;
        let uplinks = status["uplinks"].as_array().unwrap();
        let found = uplinks.iter().find(|uplink| uplink["name"] == "isp-a").unwrap();
        Ok((found["weight"] == weight).then_some(()))
    })
    .unwrap();
}

#[test]
fn a_text_is_checked_tried_kept_and_undone() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = start(&folder);
    gateway.assert_uplinks(10, &[0, 1]);
    let good = file(&gateway);
    assert!(good.contains("weight = 30"), "{good}");
    let browser = Browser::start(&gateway.lab.gateway);
    open(&browser);
    // Nobody without the token sees the text, or can try one.
    browser.wait_for("words", "document.querySelector('#conf-about').innerText.includes('token')");
    let visible = "return document.querySelector('#conf-editor').checkVisibility()";
    assert_eq!(browser.run(visible), false);
    browser.click("#token");
    browser.press(ESCAPE);
    browser.wait_for("no question", "!document.querySelector('#ask').open");
    assert_eq!(browser.run(visible), false);
    give_token(&browser);
    browser.wait_for("the editor", "document.querySelector('#conf-text').value");
    assert_eq!(edited(&browser), good);

    // A wrong text has its problem at its place.
    let wrong = good.replace("weight = 30", "weight = -30");
    edit(&browser, &wrong);
    browser.click("#conf-check");
    said(&browser, "cannot be used");
    let line = 1 + wrong[..wrong.find("weight = -30").unwrap()].matches('\n').count();
    let marked = "[...document.querySelectorAll('#conf-lines .bad')].map((line) => line.innerText)";
    assert_eq!(browser.run(&format!("return {marked}")), serde_json::json!([line.to_string()]));
    browser.click("#conf-problems button");
    let caret = browser.run("return document.querySelector('#conf-text').selectionStart");
    assert_eq!(caret, wrong.find("-30").unwrap());
    assert_eq!(browser.run("return document.activeElement.id"), "conf-text");

    // By the keyboard alone, one comes on from there, and sees where one is.
    browser.press(TAB);
    assert_eq!(browser.run("return document.activeElement.id"), "conf-check");
    let outline = "return getComputedStyle(document.activeElement).outlineStyle";
    assert_eq!(browser.run(outline), "solid");
    browser.press(TAB);
    assert_eq!(browser.run("return document.activeElement.id"), "conf-try");

    // A hook is for the file: what comes by the page runs nothing.
    let hook = folder.path().join("hook-ran");
    edit(&browser, &format!("{good}\n[hooks]\non_change = [\"/bin/touch\", {hook:?}]\n"));
    browser.click("#conf-check");
    said(&browser, "[hooks] can only be changed in the file");
    browser.click("#conf-try");
    said(&browser, "[hooks] can only be changed in the file");
    assert_eq!(browser.run("return document.querySelector('#ask').open"), false);

    // One that is undone by its button, and one by time: the file stays as it is.
    let other = good.replace("weight = 30", "weight = 31");
    edit(&browser, &other);
    browser.click("#conf-check");
    said(&browser, "can be used");
    let differs = "document.querySelector('#conf-changes').innerText";
    browser.wait_for("what differs", &format!("{differs}.includes('+ weight = 31')"));
    try_it(&browser, 600);
    wait_for_weight(&gateway, 31);
    assert_eq!(file(&gateway), good, "nothing is written before it is kept");
    let left =
        "Number(document.querySelector('#trial-text').innerText.match(/(\\d+)\\smin/)[1]) <= 9";
    browser.wait_for("the countdown", left);
    browser.click("#trial-undo");
    wait_for_no_trial(&browser);
    wait_for_weight(&gateway, 30);
    assert_eq!(edited(&browser), other, "what the user wrote stays");
    try_it(&browser, 3);
    wait_for_no_trial(&browser);
    wait_for_weight(&gateway, 30);
    assert_eq!(file(&gateway), good);

    // A daemon that is killed goes on with the trial, and a later one with the file.
    try_it(&browser, 600);
    wait_for_weight(&gateway, 31);
    gateway.daemon.stop(Signal::SIGKILL).unwrap();
    super::begin(&mut gateway, &good);
    wait_for_weight(&gateway, 31);
    browser.wait_for("the trial", "!document.querySelector('#trial').hidden");
    let refused = linkbal(&gateway.lab, &["reload"]);
    assert!(refused.status.success(), "{}", text(&refused.stderr));
    wait_for_weight(&gateway, 30);

    // What is kept is in the file, and in force.
    wait_for_no_trial(&browser);
    try_it(&browser, 600);
    browser.click("#trial-keep");
    wait_for_no_trial(&browser);
    assert_eq!(file(&gateway), other);
    wait_for_weight(&gateway, 31);
    let curl = ["-s", "-H", "Authorization: Bearer 0123456789abcdef0123456789abcdef"];
    let url = format!("{PAGE}v1/configuration");
    let answer = gateway.lab.gateway.run("curl", &[&curl[..], &[&url]].concat()).unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["text"], other);
    gateway.daemon.stop(Signal::SIGTERM).unwrap();
    super::begin(&mut gateway, &other);
    wait_for_weight(&gateway, 31);

    // What is written during a trial stays when that is kept.
    let later = format!("{other}# later\n");
    edit(&browser, &good);
    try_it(&browser, 600);
    edit(&browser, &later);
    browser.click("#trial-keep");
    wait_for_no_trial(&browser);
    wait_for_weight(&gateway, 30);
    assert_eq!(file(&gateway), good);
    // The text in force is asked for again.
    browser.run(
        "document.querySelector('#conf-about').textContent = ''; \
         dispatchEvent(new HashChangeEvent('hashchange'))",
    );
    browser.wait_for("an answer", "document.querySelector('#conf-about').textContent");
    assert_eq!(edited(&browser), later);
    edit(&browser, &other);
    try_it(&browser, 600);
    browser.click("#trial-keep");
    wait_for_no_trial(&browser);

    // What others write meanwhile does not get lost.
    browser.wait_for("it live", "document.querySelector('#link-state').dataset.live === 'true'");
    edit(&browser, &good);
    try_it(&browser, 600);
    let by_hand = format!("# by hand\n{other}");
    fs::write(gateway.daemon.config_path(), &by_hand).unwrap();
    browser.click("#trial-keep");
    let toast = "document.querySelector('#toast').innerText.includes('changed by others')";
    browser.wait_for("a refusal", toast);
    assert_eq!(file(&gateway), by_hand);
    browser.click("#trial-undo");
    wait_for_weight(&gateway, 31);
    assert!(!hook.exists(), "the hook of a text ran");
    assert_no_errors(&browser);
}
