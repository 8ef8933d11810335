//! The page, as a user in a real browser sees it.

mod browser;
mod configuration;

use std::fs;
use std::process::Stdio;

use linkbal_lab::daemon::{self, Daemon};
use linkbal_lab::topology::{Lab, UplinkSpec};
use nix::sys::signal::Signal;

use self::browser::Browser;
use crate::fixture::{Gateway, LIMIT, installed, linkbal, uplink_status};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const PAGE: &str = "http://127.0.0.1:9480/";

/// A key in WebDriver.
const ENTER: &str = "\u{e007}";

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

/// Writes the token into the dialog, and ends it by the keyboard.
fn give_token(browser: &Browser) {
    browser.click("#token");
    browser.write("#ask-input", TOKEN);
    browser.press(ENTER);
    browser.wait_for("buttons", "document.querySelector('button[data-verb]') !== null");
}

/// Shows the page in a language.
fn speak(browser: &Browser, language: &str) {
    browser.click(&format!("#language option[value={language}]"));
    let spoken = format!("document.documentElement.lang.startsWith('{language}')");
    browser.wait_for("the language", &spoken);
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
    in_portuguese(&browser, &a);
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
    let left = ["takes no new flows", "and takes no new ones"];
    let left = left.map(|words| format!("{b}.innerText.includes('{words}')")).join(" || ");
    browser.wait_for("what is left", &left);
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

/// Asserts that an uplink without a cable has no English reason for a reader of Portuguese, and has it
/// once for both families.
fn in_portuguese(browser: &Browser, card: &str) {
    speak(browser, "pt");
    let told = "document.querySelector('#event-list').innerText";
    let event = "link isp-a IPv4: ativo → fora do ar: sem sinal em wan-a";
    browser.wait_for("the event", &format!("{told}.includes('{event}')"));
    browser.click("nav a[href='#overview']");
    let states = format!("[...{card}.querySelectorAll('.states li')]");
    let words = format!("{states}.map((state) => state.children[2].innerText)");
    browser.wait_for("one item", &format!("{states}.length === 1"));
    let reason =
        "sem sinal em wan-a; conecte o cabo, ou ligue o aparelho da outra ponta".to_owned();
    assert_eq!(browser.run(&format!("return {words}")), serde_json::json!([reason]));
    let family = browser.run(&format!("return {states}[0].innerText"));
    assert!(family.as_str().unwrap().starts_with("IPv4, IPv6 fora do ar desde "), "{family}");
    speak(browser, "en");
    browser.click("nav a[href='#events']");
}

#[test]
fn the_page_has_words_for_what_is_rare() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = start(&folder);
    let browser = Browser::start(&gateway.lab.gateway);
    browser.open(PAGE);
    browser.wait_for("the uplinks", "document.querySelectorAll('article').length === 2");
    let outages = "import('/page/words.js').then(({ counted, setLanguage }) => \
                   ['en', 'pt'].flatMap((language) => { setLanguage(language); \
                   return [1, 2].map((count) => counted('outages', count, '17 s')); }))";
    let said =
        serde_json::json!(["1 outage, 17 s", "2 outages, 17 s", "1 queda, 17 s", "2 quedas, 17 s"]);
    assert_eq!(browser.run_async(outages), said);
    let limit = |code, value: f64, limit| serde_json::json!({ "code": code, "args": { "value": value, "limit": limit } });
    let limits = [limit("latency-exceeded", 350.2, 300), limit("loss-exceeded", 7.5, 5)];
    let more = serde_json::json!([
        { "code": "degraded", "args": { "limits": limits } },
        { "code": "comes-back-when-well", "args": { "hold_s": 559 } },
        { "code": "went-down", "args": { "times": 3 } },
    ]);
    let reason = |code: &str, more: &serde_json::Value| {
        let args = serde_json::json!({ "rounds": 1, "answered": 0, "targets": 2, "needed": 1 });
        let reason = serde_json::json!({ "reason": "what nobody knows for 5 s", "reason_code": code,
            "reason_args": args, "reason_more": more });
        let page = "import('/page/reasons.js')";
        browser.run_async(&format!("{page}.then(({{ reasonOf }}) => reasonOf({reason}))"))
    };
    let said = "1 rodada de sondas falhou: nenhum de 2 alvos respondeu (mínimo: 1); qualidade degradada: \
                latência 350,2\u{a0}ms (limite 300\u{a0}ms), perda 7,5\u{a0}% (limite 5\u{a0}%); volta \
                depois de 9\u{a0}min 19\u{a0}s funcionando bem: caiu 3 vezes em 10 minutos";
    assert_eq!(reason("targets-silent", &more), said);
    let nothing = serde_json::json!([]);
    assert_eq!(reason("of-the-future", &nothing), "what nobody knows for 5\u{a0}s");
    // Questions about flows without ports, and about those of the gateway.
    let flow = "{ client: '10.0.0.5', destination: '203.0.113.7'";
    let gre = format!("{flow}, protocol: 'gre' }}");
    let other = format!("{flow}, protocol: '89' }}");
    let own = "{ client: '::', client_port: 7, destination: '192.0.2.1', destination_port: 53, \
               protocol: 'udp' }";
    let asked = format!(
        "import('/page/explain.js').then(({{ explainFlow }}) => {{ const asked = []; \
         const real = window.fetch; \
         window.fetch = (path) => {{ asked.push(path); throw new Error('not sent'); }}; \
         [{gre}, {other}, {own}].forEach(explainFlow); window.fetch = real; return asked; }})"
    );
    let questions = serde_json::json!([
        "/v1/explain?source=10.0.0.5&destination=203.0.113.7&protocol=47",
        "/v1/explain?source=10.0.0.5&destination=203.0.113.7&protocol=89",
        "/v1/explain?source=0.0.0.0&destination=192.0.2.1&destination_port=53&protocol=17\
         &source_port=7&from_gateway=true",
    ]);
    assert_eq!(browser.run_async(&asked), questions);
    // Events whose numbers begin anew.
    let again = "import('/page/events.js').then((page) => { \
        const event = (sequence, run, reason) => ({ sequence, run, reason, kind: 'lan', \
        severity: 'info', time: '2026-11-22T05:56:21Z' }); \
        page.addEvent(event(900001, 'a', 'before')); \
        page.addGap({ after: '900001-a', next: null }); \
        page.addEvent(event(1, 'b', 'one')); page.addEvent(event(900001, 'b', 'after')); \
        page.showEvents(); const items = [...document.querySelectorAll('#event-list li')]; \
        return items.slice(0, 4).map((item) => item.lastChild.textContent.split(' ').at(-1)); })";
    assert_eq!(browser.run_async(again), serde_json::json!(["after", "one", "aqui.", "before"]));
    // Drills, by their last updates.
    let drills = "import('/page/overview.js').then(({ drillFault }) => [ \
        { step: 'over' }, \
        { step: 'done', found_down_ms: [['ipv4', 412]], up_again_ms: 9000 }, \
        { step: 'done', found_down_ms: [['ipv4', 412], ['ipv6', null]], up_again_ms: null }, \
        ].map((update) => drillFault(`{}\\n${JSON.stringify(update)}\\n`, 'a')))";
    let faults = serde_json::json!([
        "A simulação de falha em a foi interrompida.",
        null,
        "A falha não foi percebida em IPv6. a ainda não voltou.",
    ]);
    assert_eq!(browser.run_async(drills), faults);
    // One uplink of a worse tier, which gets no new flows.
    let waiting = "Promise.all([import('/page/overview.js'), fetch('/v1/status')]) \
        .then(async ([page, answer]) => { const status = await answer.json(); \
        const [best, other] = status.uplinks; other.tier = 2; \
        for (const family of [other.ipv4, other.ipv6]) family.target_share = 0; \
        page.showOverview(status); \
        return [best, other].map(({ name }) => document.querySelector( \
        `article[data-key=${name}] > div:nth-child(2)`)?.innerText ?? null); })";
    let remarks = serde_json::json!([null, "de reserva: o nível 1 está em uso"]);
    assert_eq!(browser.run_async(waiting), remarks);
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
    assert!(linkbal(&gateway.lab, &["drain", "isp-b"]).status.success());
    let mut drill = gateway.lab.gateway.command(daemon::find_program().unwrap());
    drill.args(["drill", "isp-a", "--for", "10m"]).stdout(Stdio::null());
    let mut drill = Some(gateway.lab.gateway.spawn(&mut drill).unwrap());
    let state = |name: &str| format!("document.querySelector('[data-key={name}]').dataset.state");
    browser.wait_for("a drill", &format!("{} === 'drill'", state("isp-a")));
    browser.wait_for("one draining", &format!("{} === 'draining'", state("isp-b")));
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
        // Nothing can be tried during a drill.
        drop(drill.take());
    }
    browser.click("#language option[value=pt]");
    browser.wait_for("Portuguese", "document.querySelector('nav a').innerText === 'Visão geral'");
    assert_no_errors(&browser);
}
