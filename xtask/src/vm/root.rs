//! The file systems that a guest's programs are taken from, with the libraries that they load.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::layout::{needed, place};
use crate::{architecture::Architecture, process::ask};

/// Folders of programs.
const PROGRAMS: [&str; 4] = ["usr/sbin", "usr/bin", "sbin", "bin"];

/// File systems: unpacked packages before this machine's own.
pub(super) struct Roots {
    roots: Vec<PathBuf>,
    architecture: Architecture,
}

impl Roots {
    /// Takes these folders in their order, and, for guests of this machine's own architecture, this
    /// machine's files last.
    pub(super) fn new(architecture: Architecture, mut roots: Vec<PathBuf>) -> Self {
        if architecture == Architecture::Amd64 {
            roots.push("/".into());
        }
        Self { roots, architecture }
    }

    /// Returns the path here of the first file or folder with this path in a root.
    pub(super) fn find(&self, path: &str) -> Option<PathBuf> {
        let path = path.trim_start_matches('/').replace("TRIPLET", self.architecture.triplet());
        self.roots.iter().map(|root| root.join(&path)).find(|path| self.target(path).exists())
    }

    /// Returns the path here of the file that a path is, or links to by a path from the root on.
    fn target(&self, path: &Path) -> PathBuf {
        let root = self.roots.iter().find(|root| path.starts_with(root));
        let link = fs::read_link(path).ok().filter(|link| link.is_absolute());
        match (root, link) {
            (Some(root), Some(link)) => root.join(link.strip_prefix("/").unwrap_or(&link)),
            _ => path.to_owned(),
        }
    }

    /// Returns the path here of a program.
    ///
    /// # Errors
    /// If no root has it.
    pub(super) fn program(&self, name: &str) -> Result<PathBuf> {
        let found = PROGRAMS.iter().find_map(|folder| self.find(&format!("{folder}/{name}")));
        found.with_context(|| format!("program {name} is missing"))
    }

    /// Returns the folders at a path of all roots that have one.
    pub(super) fn folders<'a>(&'a self, path: &'a str) -> impl Iterator<Item = PathBuf> + 'a {
        self.roots.iter().map(move |root| root.join(path)).filter(|folder| folder.is_dir())
    }

    /// Returns the path in the archive of a file of a root, or of this machine.
    pub(super) fn place(&self, path: &Path) -> String {
        let below = self.roots.iter().find_map(|root| path.strip_prefix(root).ok());
        place(below.unwrap_or(path))
    }

    /// Adds a file, and the libraries that it loads, to files by their path in the archive.
    ///
    /// # Errors
    /// If no root has a library of a program.
    pub(super) fn add(&self, path: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
        let target = self.target(path);
        if files.insert(self.place(path), target.clone()).is_some() {
            return Ok(());
        }
        self.add_libraries(&target, files)
    }

    /// Adds the libraries that a program loads: none for a script or a static program.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub(super) fn add_libraries(
        &self,
        program: &Path,
        files: &mut BTreeMap<String, PathBuf>,
    ) -> Result<()> {
        // What is no program is not asked about: that takes long over thousands of files.
        if !is_elf(program) {
            return Ok(());
        }
        let listed = ask(Command::new("readelf").args(["--wide", "-ld"]).arg(program));
        let listed = listed.with_context(|| format!("cannot read {}", program.display()))?;
        for name in needed(&listed) {
            let found = self.library(name);
            let found = found.with_context(|| format!("{} needs {name}", program.display()))?;
            self.add(&found, files)?;
        }
        Ok(())
    }

    /// Finds a library, or the loader, which is named by its path.
    fn library(&self, name: &str) -> Option<PathBuf> {
        if name.starts_with('/') {
            return self.find(name);
        }
        ["lib/TRIPLET", "usr/lib/TRIPLET", "lib", "usr/lib", "usr/lib/TRIPLET/systemd"]
            .iter()
            .find_map(|folder| self.find(&format!("{folder}/{name}")))
    }
}

/// Returns whether a file is a program or a library (ELF, System V ABI chapter 4).
fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && magic == *b"\x7fELF"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_a_package_gets_its_installed_path() {
        let roots = Roots::new(Architecture::Amd64, vec!["/cache/systemd".into()]);
        let here = Path::new("/cache/systemd/lib/systemd/systemd");
        assert_eq!(roots.place(here), "usr/lib/systemd/systemd");
        assert_eq!(roots.place(Path::new("/lib/libc.so")), "usr/lib/libc.so");
    }

    #[test]
    fn links_from_the_root_on_stay_in_their_root() -> Result<()> {
        let root = std::env::temp_dir().join(format!("linkbal-root-{}", std::process::id()));
        fs::create_dir_all(root.join("bin"))?;
        fs::create_dir_all(root.join("sbin"))?;
        fs::write(root.join("bin/no-such-program"), "#!")?;
        std::os::unix::fs::symlink("/bin/no-such-program", root.join("sbin/no-such-program"))?;
        let roots = Roots::new(Architecture::Arm64, vec![root.clone()]);
        let found = roots.program("no-such-program").map(|path| roots.target(&path));
        fs::remove_dir_all(&root)?;
        assert_eq!(found?, root.join("bin/no-such-program"));
        Ok(())
    }

    #[test]
    fn a_program_comes_with_its_loader_and_libraries() -> Result<()> {
        let roots = Roots::new(Architecture::Amd64, vec![]);
        let mut files = BTreeMap::new();
        roots.add(&roots.program("ip")?, &mut files)?;
        let has = |part: &str| files.keys().any(|path| path.contains(part));
        assert!(has("bin/ip") && has("ld-linux") && has("libc.so.6"), "{files:?}");
        Ok(())
    }
}
