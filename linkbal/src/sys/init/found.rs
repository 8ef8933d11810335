//! Configurations of other tools, where these keep them.

use std::path::Path;

use crate::{
    engine::doctor::leftovers::{Job, is_suspect_script, scripts_in},
    import::Tool,
    init::Found,
    sys::host::file,
};

/// Most bytes of a file that are read.
const MAX_FILE: u64 = 1 << 20;

const MWAN3: &str = "/etc/config/mwan3";
const NETWORK: &str = "/etc/config/network";

/// File of the configuration of VyOS and EdgeOS.
const BOOT: &str = "/config/config.boot";

/// Returns the files that `linkbal import` reads; `jobs` are those that look like old scripts.
pub(super) fn configurations(jobs: &[Job]) -> Vec<Found> {
    let mut found = Vec::new();
    let read = |path: &str| file::read(Path::new(path), MAX_FILE).ok();
    if read(MWAN3).is_some() {
        let network = read(NETWORK).map(|_| NETWORK.to_owned());
        found.push(Found { path: MWAN3.into(), kind: Tool::Mwan3, network });
    }
    if let Some(text) = read(BOOT) {
        let text = String::from_utf8_lossy(&text).into_owned();
        let tools = [("load-balancing", Tool::Vyos), ("load-balance", Tool::Edgeos)];
        if let Some((_, kind)) = tools.into_iter().find(|(word, _)| text.contains(word)) {
            found.push(Found { path: BOOT.into(), kind, network: None });
        }
    }
    for job in jobs {
        let own = read(&job.file).filter(|_| !job.file.contains("cron"));
        let named = scripts_in(&job.text).into_iter().map(|path| (path.to_owned(), read(path)));
        for (path, text) in [(job.file.clone(), own)].into_iter().chain(named) {
            let text = String::from_utf8_lossy(&text.unwrap_or_default()).into_owned();
            let is_new = found.iter().all(|known| known.path != path);
            if is_new && is_suspect_script(&text) && !path.contains("/interfaces") {
                found.push(Found { path, kind: Tool::Script, network: None });
            }
        }
    }
    found
}
