//! Pictures of the page, from a gateway with uplinks in every state.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::browser::Browser;
use crate::daemon::{self, Daemon};
use crate::topology::{Lab, UplinkSpec};
use crate::traffic::{FlowSpec, HTTP, LongFlows, Servers};
use crate::{interrupt, wait};

const PAGE: &str = "http://127.0.0.1:9480/";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Longest wait for a state.
const LIMIT: Duration = Duration::from_secs(60);

/// Time for which the gateway runs before: the charts are to show something.
const RUN: Duration = Duration::from_secs(45);

/// Pause between two requests of a flow.
const TICK: Duration = Duration::from_millis(100);

/// Widths in pixels, from a telephone to a wall.
const WIDTHS: [u32; 4] = [320, 768, 1280, 2560];

/// Size of the pictures of the documents, in pixels.
const SIZE: (u32, u32) = (1180, 1120);

/// Highest picture, in pixels.
const HIGHEST: u64 = 4000;

const SECTIONS: [&str; 5] = ["overview", "flows", "events", "explain", "configuration"];

/// Names and weights of the uplinks: what becomes of each is in [`spoil`].
const UPLINKS: [(&str, u32); 7] = [
    ("fiber", 50),
    ("cable", 30),
    ("dsl", 10),
    ("lte", 5),
    ("radio", 5),
    ("coax", 10),
    ("satellite", 5),
];

/// The options of the pictures.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder for the pictures.
    pub folder: PathBuf,
    /// Set to make one of each section, width, language and colour instead of those in the documents.
    pub all: bool,
    /// The program to show; if `None`, that of [`daemon::find_program`].
    pub linkbal: Option<PathBuf>,
}

/// The gateway and its browser. The parts are dropped from the first to the last.
struct Scene {
    browser: Browser,
    _flows: LongFlows,
    _daemon: Daemon,
    _servers: Servers,
    _lab: Lab,
}

/// Makes the pictures.
///
/// # Errors
/// When a step cannot be carried out, or the user interrupts it.
pub fn run(options: &Options) -> Result<()> {
    let program = match &options.linkbal {
        Some(path) => daemon::absolute(path)?,
        None => daemon::find_program()?,
    };
    fs::create_dir_all(&options.folder)?;
    let folder = fs::canonicalize(&options.folder)?;
    let keys = tempfile::tempdir()?;
    let scene = Scene::new(&program, keys.path())?;
    match options.all {
        true => scene.every_screen(&folder),
        false => scene.documents(&folder),
    }
}

/// Brings the uplinks into their states, one after the other.
fn spoil(lab: &Lab, daemon: &mut Daemon) -> Result<()> {
    lab.cut_cable(5)?;
    daemon.wait_for("coax down", LIMIT, |status| state(status, "coax") == "down")?;
    // It is held down from then on, until it has proven itself.
    lab.plug_cable(5)?;
    lab.blackhole(2)?;
    daemon.run(&["disable", "lte"])?;
    daemon.run(&["drain", "radio"])?;
    daemon.wait_for("dsl down", LIMIT, |status| state(status, "dsl") == "down")?;
    Ok(())
}

fn state<'a>(status: &'a serde_json::Value, name: &str) -> &'a str {
    let uplinks = status["uplinks"].as_array().into_iter().flatten();
    let found =
        uplinks.filter(|uplink| uplink["name"] == name).find_map(|one| one["state"].as_str());
    found.unwrap_or_default()
}

fn config(lab: &Lab, keys: &Path) -> Result<String> {
    let token = keys.join("token");
    fs::write(&token, TOKEN)?;
    let api = format!(
        "[firewall]\ninbound = \"open\"\n\n[api]\nlisten = \"127.0.0.1:9480\"\ntoken_file = {token:?}\n"
    );
    let uplinks = lab.config().replace("[uplink.satellite]\n", "[uplink.satellite]\ntier = 2\n");
    Ok(format!("{uplinks}hold = \"500ms\"\n\n[uplink.coax.probe]\nhold = \"10m\"\n\n{api}"))
}

impl Scene {
    fn new(program: &Path, keys: &Path) -> Result<Scene> {
        let specs = UPLINKS.iter().zip(0..);
        let specs: Vec<_> = specs
            .map(|((name, weight), number)| UplinkSpec::new(name, &format!("eth{number}"), *weight))
            .collect();
        let lab = Lab::new(&specs)?;
        let servers = Servers::start(&lab.net)?;
        let mut daemon = Daemon::start_program(program, &lab, &config(&lab, keys)?)?;
        daemon.wait_until_up(LIMIT)?;
        let flows = LongFlows::start(&lab.lan, &FlowSpec::mixed(HTTP, 40), TICK)?;
        let end = std::time::Instant::now() + RUN;
        wait::until("some history", RUN + LIMIT, || {
            Ok((std::time::Instant::now() >= end).then_some(()))
        })?;
        spoil(&lab, &mut daemon)?;
        let browser = Browser::start(&lab.gateway)?;
        let scene = Scene { browser, _flows: flows, _daemon: daemon, _servers: servers, _lab: lab };
        scene.open()?;
        Ok(scene)
    }

    /// Opens the page with the token, as a user who has given it.
    fn open(&self) -> Result<()> {
        let browser = &self.browser;
        browser.resize(SIZE.0, SIZE.1)?;
        browser.open(PAGE)?;
        browser.run(&format!("sessionStorage.setItem('token', '{TOKEN}')"))?;
        browser.open(&format!("{PAGE}?"))?;
        browser.wait_for("the charts", "document.querySelector('svg.chart polyline')")?;
        Ok(())
    }

    fn set(&self, setting: &str, value: &str) -> Result<()> {
        let script = format!(
            "const one = document.querySelector('#{setting}'); one.value = '{value}'; \
             one.dispatchEvent(new Event('change'))"
        );
        self.browser.run(&script).map(drop)
    }

    /// Makes the pictures of the documents.
    fn documents(&self, folder: &Path) -> Result<()> {
        for colours in ["light", "dark"] {
            self.set("colours", colours)?;
            // Transitions of the pictures of the browser itself.
            thread::sleep(TICK);
            self.take(&folder.join(format!("page-{colours}.png")))?;
        }
        Ok(())
    }

    /// Makes a picture of each section, width, language and colour, as high as the page is.
    fn every_screen(&self, folder: &Path) -> Result<()> {
        self.a_drill(folder)?;
        for section in SECTIONS {
            self.browser.click(&format!("nav a[href='#{section}']"))?;
            if section == "configuration" {
                self.try_a_text()?;
            }
            for width in WIDTHS {
                for (language, colours) in [("en", "light"), ("pt", "dark")] {
                    interrupt::check()?;
                    self.set("language", language)?;
                    self.set("colours", colours)?;
                    self.browser.resize(width, 900)?;
                    let high = self.browser.run("return document.scrollingElement.scrollHeight")?;
                    let high = high.as_u64().unwrap_or(900).clamp(900, HIGHEST);
                    self.browser.resize(width, u32::try_from(high)?)?;
                    self.take(&folder.join(format!("{section}-{width}-{language}-{colours}.png")))?;
                }
            }
        }
        Ok(())
    }

    /// Makes a picture of the question before a drill, and one of the drill.
    fn a_drill(&self, folder: &Path) -> Result<()> {
        let browser = &self.browser;
        browser.resize(320, 900)?;
        // The picture is drawn for the width with the next status.
        thread::sleep(40 * TICK);
        self.take(&folder.join("top-320.png"))?;
        browser.click("button[data-verb=drill][data-uplink=cable]")?;
        browser.resize(320, 700)?;
        self.take(&folder.join("question-320.png"))?;
        browser.resize(SIZE.0, SIZE.1)?;
        browser.click("#ask-yes")?;
        browser.wait_for(
            "the drill",
            "document.querySelector('#notices').innerText.includes('cable')",
        )?;
        browser.wait_for(
            "its reason",
            "document.querySelector('[data-key=cable]').innerText.includes('on purpose')",
        )?;
        for language in ["pt", "en"] {
            self.set("language", language)?;
            self.take(&folder.join(format!("drill-{language}.png")))?;
        }
        browser.wait_for(
            "it up",
            "document.querySelector('[data-key=cable]').dataset.state === 'up'",
        )?;
        Ok(())
    }

    /// Checks a text with problems while another one is on trial.
    fn try_a_text(&self) -> Result<()> {
        let browser = &self.browser;
        browser.wait_for("the text", "document.querySelector('#conf-text').value")?;
        self.edit("weight = 50", "weight = 60")?;
        browser.click("#conf-try")?;
        browser.wait_for("the question", "document.querySelector('#ask').open")?;
        browser.click("#ask-yes")?;
        browser.wait_for("the trial", "!document.querySelector('#trial').hidden")?;
        self.edit("weight = 60", "wait = 60")?;
        browser.click("#conf-check")?;
        browser.wait_for("problems", "document.querySelector('#conf-problems button')")?;
        browser.click("#conf-problems button")
    }

    fn edit(&self, from: &str, to: &str) -> Result<()> {
        let script = format!(
            "const field = document.querySelector('#conf-text'); \
             field.value = field.value.replace('{from}', '{to}'); \
             field.dispatchEvent(new Event('input'))"
        );
        self.browser.run(&script).map(drop)
    }

    fn take(&self, path: &Path) -> Result<()> {
        // What is asked for again comes in between.
        thread::sleep(5 * TICK);
        self.browser.screenshot(path)?;
        println!("{} ({} KiB)", path.display(), fs::metadata(path)?.len() >> 10);
        Ok(())
    }
}
