//! Detection and restoration of missing parts of the datapath.

use std::fs;

use anyhow::{Context as _, Result};
use linkbal_common::{maps, names};

use super::{
    Datapath, cgroup,
    link::HeldLink,
    link_watcher::LinkWatcher,
    map_data,
    program::{is_loaded, program},
};
use crate::engine::kernel::resource::Part;

impl Datapath {
    /// Returns the parts whose links are detached, by one system call for each link.
    pub fn detached(&self) -> Vec<Part> {
        let mut detached = self.attachments.detached();
        let local = self.local.as_ref();
        if local.is_some_and(|links| !links.iter().all(HeldLink::is_attached)) {
            detached.push(Part::Local);
        }
        detached
    }

    /// Makes `watcher` poll the links that there are now.
    pub fn watch_links(&self, watcher: &LinkWatcher) {
        let local = self.local.iter().flatten();
        watcher.set_links(self.attachments.links().chain(local).cloned().collect());
    }

    /// Returns the maps, programs and links that are no longer pinned.
    pub fn unpinned(&self) -> Vec<Part> {
        let programs = names::PROGRAMS.into_iter().filter(|name| is_loaded(&self.ebpf, name));
        let names = maps::pinned().chain(programs);
        // What has not taken over is not pinned yet.
        let names = names.filter(|_| self.is_in_force());
        let gone = names.filter(|name| !self.dir.join(name).exists());
        let gone = gone.map(|name| Part::Pin(name.to_owned()));
        let local = self.local.is_some() && !cgroup::is_pinned(&self.dir);
        let local = local.then_some(Part::Local);
        gone.chain(self.attachments.unpinned()).chain(local).collect()
    }

    /// Returns the filter that an interface has lost, if it had one.
    pub fn lost_filter(&self, ifindex: u32) -> Option<Part> {
        self.attachments.filtered(ifindex)
    }

    /// Restores one part. Maps keep their entries: they live as long as this does.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn restore(&mut self, part: &Part) -> Result<()> {
        // The folder may have gone with what was in it.
        fs::create_dir_all(&self.dir)
            .with_context(|| format!("failed to create {}", self.dir.display()))?;
        let restored = match part {
            Part::Pin(name) => self.pin_again(name),
            Part::Attachment { ifindex, .. } => self.attachments.restore(&mut self.ebpf, *ifindex),
            Part::Local => cgroup::attach(&mut self.ebpf, &self.dir).map(|links| {
                self.local = Some(links);
            }),
        };
        restored.with_context(|| format!("failed to restore {part}"))
    }

    fn pin_again(&mut self, name: &str) -> Result<()> {
        let pin = self.dir.join(name);
        if maps::pinned().any(|map| map == name) {
            map_data(self.map(name)?)?.pin(pin)?;
        } else {
            program(&mut self.ebpf, name)?.pin(pin)?;
        }
        Ok(())
    }
}
