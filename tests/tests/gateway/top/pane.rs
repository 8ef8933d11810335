//! `linkbal top` in a terminal of tmux, which is another program's idea of what a terminal shows.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use linkbal_lab::namespace::Namespace;
use linkbal_lab::topology::Lab;
use linkbal_lab::{daemon, wait};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::fixture::LIMIT;

/// A terminal of 80 columns and 24 rows; dropping it ends what runs in it.
pub(super) struct Pane {
    gateway: Arc<Namespace>,
    folder: TempDir,
}

/// Notes the modes of the terminal, runs the program, and notes what is left of both.
const SCRIPT: &str = "stty -g > FOLDER/before\nenv VARIABLES PROGRAM top\necho $? > FOLDER/code\n\
                      stty -g > FOLDER/after\ntouch FOLDER/ended\nsleep 600\n";

impl Pane {
    /// Starts the program in the gateway, with variables of the environment.
    pub(super) fn start(lab: &Lab, variables: &str) -> Pane {
        let folder = TempDir::with_prefix("linkbal-lab-").unwrap();
        let program = daemon::find_program().unwrap().canonicalize().unwrap();
        let script = SCRIPT
            .replace("FOLDER", folder.path().to_str().unwrap())
            .replace("VARIABLES", variables)
            .replace("PROGRAM", program.to_str().unwrap());
        let path = folder.path().join("script");
        fs::write(&path, script).unwrap();
        let pane = Pane { gateway: Arc::clone(&lab.gateway), folder };
        let run = format!("sh {}", path.display());
        pane.tmux(&["new-session", "-d", "-x", "80", "-y", "24", &run]);
        pane
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn tmux(&self, args: &[&str]) -> String {
        let socket = self.path("socket");
        let own = ["-u", "-f", "/dev/null", "-S", socket.to_str().unwrap()];
        self.gateway.run("tmux", &[&own, args].concat()).unwrap()
    }

    /// Presses keys, as tmux names them.
    pub(super) fn press(&self, keys: &[&str]) {
        // One after the other: a key that comes at once behind Esc is taken for one with Alt.
        keys.iter().for_each(|key| drop(self.tmux(&["send-keys", key])));
    }

    /// Gives the terminal another size.
    pub(super) fn resize(&self, width: u16, height: u16) {
        let [width, height] = [width, height].map(|size| size.to_string());
        self.tmux(&["resize-window", "-x", &width, "-y", &height]);
    }

    /// Waits until all of some texts are on the screen; returns it.
    pub(super) fn wait_for(&self, texts: &[&str]) -> String {
        let mut last = String::new();
        let found = wait::until(&format!("{texts:?} on the screen"), LIMIT, || {
            last = self.tmux(&["capture-pane", "-p"]);
            Ok(texts.iter().all(|text| last.contains(text)).then(|| last.clone()))
        });
        found.unwrap_or_else(|error| panic!("{error:#}\n{last}"))
    }

    /// Returns whether the screen has a colour (ECMA-48, SGR 30 to 38).
    pub(super) fn has_colours(&self) -> bool {
        let screen = self.tmux(&["capture-pane", "-p", "-e"]);
        let sequences = screen.split("\x1b[").skip(1).filter_map(|text| text.split_once('m'));
        let mut numbers = sequences.flat_map(|(numbers, _)| numbers.split(';'));
        numbers.any(|number| number.parse().is_ok_and(|number| (30..39).contains(&number)))
    }

    /// Returns whether the program shows a screen of its own, and no cursor.
    pub(super) fn is_on_another_screen(&self) -> bool {
        self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]).trim() == "1 0"
    }

    /// Returns the process id of the program.
    pub(super) fn child(&self) -> Pid {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"]);
        let shell = shell.trim();
        let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
        Pid::from_raw(children.split_whitespace().next().unwrap().parse().unwrap())
    }

    /// Waits for the end of the program, and checks that it was in order and left the terminal as before.
    pub(super) fn assert_restored(&self) {
        wait::until("the end of linkbal top", LIMIT, || {
            Ok(self.path("ended").exists().then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", self.tmux(&["capture-pane", "-p"])));
        let [before, after, code] =
            ["before", "after", "code"].map(|name| fs::read_to_string(self.path(name)).unwrap());
        assert_eq!(before, after, "the modes of the terminal");
        assert_eq!(code.trim(), "0");
        let state = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        assert_eq!(state.trim(), "0 1", "its screen and its cursor");
    }
}

impl Drop for Pane {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}
