//! Debian's kernels: found by the name of a package that always depends on the newest one, kept
//! unpacked, never installed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{
    Version,
    packages::{UNFINISHED, unpacked},
};
use crate::{apt::Archive, architecture::Architecture};

/// An unpacked kernel.
pub(super) struct Kernel {
    /// Name of the kernel's package.
    pub(super) name: String,
    /// The compressed kernel itself.
    pub(super) image: PathBuf,
    /// The folder `lib/modules/VERSION`.
    pub(super) modules: PathBuf,
}

impl Kernel {
    /// Returns the newest kernel that `apt` knows, from `cache` if it is there; if `apt` knows
    /// none, the last one in `cache`.
    ///
    /// # Errors
    /// If there is none, and it cannot be downloaded or unpacked.
    pub(super) fn get(
        version: Version,
        architecture: Architecture,
        archive: &Archive,
        cache: &Path,
    ) -> Result<Self> {
        let name = match newest(version, architecture, archive) {
            Some(name) => name,
            None => cached(version, cache).with_context(|| {
                let meta = meta_package(version, architecture);
                format!(
                    "apt-get knows no Linux {} by the name of {meta}: add Debian 12's security \
                     updates to its sources and run apt-get update",
                    version.name()
                )
            })?,
        };
        Self::unpacked(&unpacked(&name, archive, cache)?, name)
    }

    fn unpacked(root: &Path, name: String) -> Result<Self> {
        let release = name.trim_start_matches("linux-image-");
        let image = root.join("boot").join(format!("vmlinuz-{release}"));
        let modules = [root.join("lib/modules"), root.join("usr/lib/modules")];
        let modules = modules.iter().map(|modules| modules.join(release)).find(|m| m.is_dir());
        let modules = modules.with_context(|| format!("no modules in {}", root.display()))?;
        Ok(Self { name, image, modules })
    }
}

/// Returns the package that depends on the newest kernel of a version.
fn meta_package(version: Version, architecture: Architecture) -> String {
    let version = match version {
        Version::V6_1 => "",
        Version::V6_12 => "6.12-",
    };
    format!("linux-image-{version}{}", architecture.name())
}

/// Returns the newest kernel in the lists of `apt`, which are fetched if they do not have it.
fn newest(version: Version, architecture: Architecture, archive: &Archive) -> Option<String> {
    let find = || {
        let listed = archive.dependencies(&meta_package(version, architecture))?;
        dependency(&listed, version)
    };
    find().or_else(|| {
        // The next look at the lists tells whether it worked.
        let _ = archive.update();
        find()
    })
}

/// Returns the kernel in the output of `apt-cache depends`, whose lines are `  Depends: PACKAGE`.
fn dependency(listed: &str, version: Version) -> Option<String> {
    let mut packages = listed.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    packages.find(|package| is_of(version, package)).map(str::to_owned)
}

fn is_of(version: Version, package: &str) -> bool {
    package.starts_with(&format!("linux-image-{}.", version.name()))
}

/// Returns the kernel of that version that was unpacked last.
fn cached(version: Version, cache: &Path) -> Option<String> {
    let entries = fs::read_dir(cache).ok()?.flatten();
    let names = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let unpacked = is_of(version, &name) && !name.ends_with(UNFINISHED);
        unpacked.then(|| (entry.metadata().and_then(|m| m.modified()).ok(), name))
    });
    names.max().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_what_the_package_depends_on() {
        let listed = "linux-image-amd64\n  Depends: linux-image-6.1.0-1-amd64\n";
        let found = Some("linux-image-6.1.0-1-amd64".to_owned());
        assert_eq!(dependency(listed, Version::V6_1), found);
        assert_eq!(dependency(listed, Version::V6_12), None);
    }
}
