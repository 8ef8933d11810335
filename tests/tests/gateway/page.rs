//! The page, as a user in a real browser sees it.

mod browser;
mod configuration;

use std::fs;

use linkbal_lab::daemon::Daemon;
use linkbal_lab::topology::{Lab, UplinkSpec};
use nix::sys::signal::Signal;

use self::browser::Browser;
use crate::fixture::{Gateway, LIMIT, installed, uplink_status};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const PAGE: &str = "http://127.0.0.1:9480/";

/// Starts a gateway that serves the page, with a token in `folder`.
fn start(folder: &tempfile::TempDir) -> Gateway {
    let token = folder.path().join("token");
    fs::write(&token, TOKEN).unwrap();
    let section = format!("[api]\nlisten = \"127.0.0.1:9480\"\ntoken_file = {token:?}\n");
    let lab = Lab::new(&UplinkSpec::pair()).unwrap();
    Gateway::start(lab, |config| format!("{config}{section}"))
}

/// Ends the daemon, and starts it again.
fn restart(gateway: &mut Gateway) {
    let config = fs::read_to_string(gateway.daemon.config_path()).unwrap();
    gateway.daemon.stop(Signal::SIGTERM).unwrap();
    begin(gateway, &config);
}

/// Starts a daemon in place of one that has ended.
fn begin(gateway: &mut Gateway, config: &str) {
    let mut next = Daemon::start(&gateway.lab, config).unwrap();
    next.wait_until_up(LIMIT).unwrap();
    gateway.daemon = next;
}

/// Writes the token into the dialog.
fn give_token(browser: &Browser) {
    browser.click("#token");
    browser.write("#ask-input", TOKEN);
    browser.click("#ask-yes");
    browser.wait_for("buttons", "document.querySelector('button[data-verb]') !== null");
}

/// Asserts that nothing was refused by the policy of the page, and that no script failed.
fn assert_no_errors(browser: &Browser) {
    for message in browser.console() {
        let refused = message.contains("Content Security Policy") || message.contains("Uncaught");
        assert!(!refused, "{message}");
    }
}

#[test]
fn the_page_shows_what_is_down_and_why_and_changes_what_the_token_allows() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = start(&folder);
    gateway.assert_uplinks(10, &[0, 1]);
    let browser = Browser::start(&gateway.lab.gateway);
    browser.open(PAGE);
    let card = |name: &str| format!("document.querySelector('article[data-key=\"{name}\"]')");
    let a = card("isp-a");
    browser.wait_for("the uplink", &format!("{a}?.dataset.state === 'up'"));
    assert_eq!(browser.run("return document.querySelectorAll('button[data-verb]').length"), 0);

    gateway.lab.cut_cable(0).unwrap();
    browser.wait_for("it down", &format!("{a}.dataset.state === 'down'"));
    browser.wait_for("the reason", &format!("{a}.innerText.includes('no carrier on wan-a')"));
    browser.wait_for("the remedy", &format!("{a}.innerText.includes('plug the cable in')"));
    browser.click("nav a[href='#events']");
    let told = "document.querySelector('#event-list').innerText";
    browser.wait_for("the event", &format!("{told}.includes('no carrier on wan-a')"));
    gateway.lab.plug_cable(0).unwrap();
    browser.click("nav a[href='#overview']");
    browser.wait_for("it up again", &format!("{a}.dataset.state === 'up'"));

    // It goes on by itself when the daemon does.
    restart(&mut gateway);
    let live = "document.querySelector('#link-state').dataset.live === 'true'";
    browser.wait_for("the page live again", live);

    give_token(&browser);
    browser.click("button[data-verb=drain][data-uplink=isp-b]");
    browser.click("#ask-yes");
    let b = card("isp-b");
    browser.wait_for("it draining", &format!("{b}.dataset.state === 'draining'"));
    let status = gateway.daemon.status().unwrap();
    assert_eq!(uplink_status(&status, "isp-b")["admin"], "drained");
    browser.wait_for("the way back", "document.querySelector('button[data-verb=enable]')");

    browser.click("nav a[href='#flows']");
    browser.wait_for("flows", "document.querySelectorAll('#flow-rows tr').length > 0");
    browser.wait_for("clients", "document.querySelectorAll('#client-rows tr').length > 0");
    browser.click("#flow-rows button");
    let answer = browser.wait_for("the answer", "document.querySelector('#answer').innerText");
    assert!(answer.as_str().unwrap().contains("isp-"), "{answer}");
    assert_no_errors(&browser);
}

/// Widths in pixels, from a telephone to a wall.
const WIDTHS: [u32; 5] = [320, 375, 768, 1280, 2560];

#[test]
fn everybody_can_read_the_page_on_every_screen() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = start(&folder);
    gateway.assert_uplinks(10, &[0, 1]);
    let browser = Browser::start(&gateway.lab.gateway);
    browser.open(PAGE);
    browser.wait_for("the uplinks", "document.querySelectorAll('article').length === 2");
    give_token(&browser);
    let axe = installed("axe/axe_playwright_python/axe.min.js");
    let axe = fs::read_to_string(axe).unwrap();
    browser.run(&axe);
    for section in ["overview", "flows", "events", "explain", "configuration"] {
        browser.click(&format!("nav a[href='#{section}']"));
        browser.wait_for("the section", &format!("!document.querySelector('#{section}').hidden"));
        if section == "configuration" {
            configuration::show_all(&browser);
        }
        for colours in ["light", "dark"] {
            browser.run(&format!("document.documentElement.dataset.colours = '{colours}'"));
            let broken = browser.run_async(
                "axe.run().then((found) => found.violations.map((one) => \
                 `${one.id}: ${one.nodes.map((node) => node.html).join(' ')}`))",
            );
            assert_eq!(broken, serde_json::json!([]), "{section} {colours}");
        }
        for width in WIDTHS {
            browser.resize(width, 900);
            assert_eq!(browser.run("return innerWidth"), width);
            let wide = browser.run("return document.scrollingElement.scrollWidth - innerWidth");
            assert!(wide.as_i64().unwrap() <= 0, "{section} at {width}: {wide} pixels too wide");
        }
    }
    browser.click("#language option[value=pt]");
    browser.wait_for("Portuguese", "document.querySelector('nav a').innerText === 'Visão geral'");
    assert_no_errors(&browser);
}
