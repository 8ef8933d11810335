//! Debian's archive, asked for packages of one architecture. Nothing is installed by it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    architecture::Architecture,
    process::{ask, succeed},
    setup::cache_dir,
};

/// The archive, as `apt` knows it.
pub(crate) struct Archive {
    /// Lists of another architecture than this machine's, beside those of the system, which stay
    /// as they are.
    lists: Option<PathBuf>,
}

impl Archive {
    /// Opens the archive; of another architecture than x86-64, the lists are fetched if they are
    /// not there.
    ///
    /// # Errors
    /// If there is no home directory, or the lists cannot be fetched.
    pub(crate) fn of(architecture: Architecture) -> Result<Self> {
        let lists = match architecture {
            Architecture::Amd64 => None,
            Architecture::Arm64 => Some(cache_dir()?.join("apt-arm64")),
        };
        let archive = Self { lists };
        if let Some(lists) = archive.lists.as_ref().filter(|lists| !lists.join("status").exists()) {
            for folder in ["lists/partial", "cache"].map(|name| lists.join(name)) {
                fs::create_dir_all(&folder)
                    .with_context(|| format!("failed to create {}", folder.display()))?;
            }
            archive.update()?;
            // No package is installed: each depends on all that it needs.
            fs::write(lists.join("status"), "")?;
        }
        Ok(archive)
    }

    /// Fetches the lists anew.
    ///
    /// # Errors
    /// If `apt-get` fails.
    pub(crate) fn update(&self) -> Result<()> {
        succeed(self.command("apt-get").args(["-qq", "update"]))
    }

    /// Returns the dependencies of a package, as lines `  Depends: PACKAGE`; `None` if it is unknown.
    pub(crate) fn dependencies(&self, package: &str) -> Option<String> {
        ask(self.command("apt-cache").args(["depends", package]))
    }

    /// Downloads a package, or `PACKAGE=VERSION`, and unpacks it to `root`.
    ///
    /// # Errors
    /// If it cannot be downloaded or unpacked, even with fresh lists.
    pub(crate) fn unpack(&self, package: &str, root: &Path) -> Result<()> {
        let download = || {
            let fetch = self.fetch(["download", package], root);
            fetch.with_context(|| format!("failed to get package {package}"))
        };
        let files = download().or_else(|_| {
            // The lists may be older than what the archive has.
            self.update()?;
            download()
        })?;
        unpack_all(&files, root)
    }

    /// Downloads packages of another architecture with all that they depend on, and unpacks them
    /// to `root`.
    ///
    /// # Errors
    /// As [`Self::unpack`].
    pub(crate) fn unpack_with_dependencies(&self, packages: &[&str], root: &Path) -> Result<()> {
        let arguments = ["install", "--download-only", "--yes", "--no-install-recommends"];
        let arguments = arguments.iter().chain(packages).copied();
        let files = self.fetch(arguments.clone(), root).or_else(|_| {
            self.update()?;
            self.fetch(arguments, root)
        })?;
        unpack_all(&files, root)
    }

    /// Runs `apt-get` and returns the packages that it has put below `root`.
    fn fetch<'a>(
        &self,
        arguments: impl IntoIterator<Item = &'a str>,
        root: &Path,
    ) -> Result<Vec<PathBuf>> {
        let folder = root.join("packages");
        let partial = folder.join("archives/partial");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&partial)
            .with_context(|| format!("failed to create {}", partial.display()))?;
        let mut fetch = self.command("apt-get");
        let archives = folder.join("archives");
        fetch.arg("-qq").arg("-o").arg(format!("Dir::Cache::archives={}", archives.display()));
        fetch.args(arguments).current_dir(&archives);
        // What is unpacked is told by its caller; apt-get tells errors apart.
        succeed(fetch.stdout(std::process::Stdio::null()))?;
        let files = fs::read_dir(&archives)?.flatten().map(|entry| entry.path());
        let is_package = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "deb");
        let files: Vec<_> = files.filter(is_package).collect();
        ensure!(!files.is_empty(), "apt-get downloaded nothing");
        Ok(files)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // Root's own folders are closed to the user that apt-get downloads as by default.
        command.args(["-o", "APT::Sandbox::User=root"]);
        if let Some(lists) = &self.lists {
            let name = Architecture::Arm64.name();
            command.arg("-o").arg(format!("APT::Architecture={name}"));
            command.arg("-o").arg(format!("APT::Architectures={name}"));
            command.arg("-o").arg(format!("Dir::State={}", lists.display()));
            command.arg("-o").arg(format!("Dir::Cache={}/cache", lists.display()));
            command.arg("-o").arg(format!("Dir::State::status={}/status", lists.display()));
            command.args(["-o", "Debug::NoLocking=1"]);
        }
        command
    }
}

/// Unpacks packages to `root`, in which they lie, and removes them.
fn unpack_all(files: &[PathBuf], root: &Path) -> Result<()> {
    for file in files {
        succeed(Command::new("dpkg").arg("-x").args([file, root]))?;
    }
    let folder = root.join("packages");
    fs::remove_dir_all(&folder).with_context(|| format!("failed to remove {}", folder.display()))
}
