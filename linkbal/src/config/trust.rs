//! Owners and modes of files that root acts on: a configuration with hooks, and the programs of hooks.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;

/// Bits of a mode by which the group and all others may write.
const OTHERS_WRITE: u32 = 0o022;

/// Bit of a folder in which everybody may only touch what is his own.
const STICKY: u32 = 0o1000;

/// Most symbolic links that are followed.
const LINKS: usize = 40;

/// A file or folder that others than root may change, and how to mend that.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Distrust {
    /// Fault.
    pub(super) message: String,
    /// The command that mends it.
    pub(super) help: String,
}

/// Returns what is wrong with a file, its links and the folders above them, if others than root and
/// the current user may change what stands there. A missing file is no problem.
pub(super) fn check(path: &Path) -> Option<Distrust> {
    let mut path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for _ in 0..LINKS {
        let found = path.ancestors().find_map(distrust);
        if found.is_some() {
            return found;
        }
        match fs::read_link(&path) {
            Ok(target) => path = joined(&path, &target),
            // Folders may be links, too.
            Err(_) => return fs::canonicalize(&path).ok()?.ancestors().find_map(distrust),
        }
    }
    None
}

fn joined(link: &Path, target: &Path) -> PathBuf {
    link.parent().unwrap_or(Path::new("/")).join(target)
}

fn distrust(path: &Path) -> Option<Distrust> {
    let found = fs::symlink_metadata(path).ok()?;
    let shown = path.display();
    if found.is_symlink() {
        // Its folder says who may replace it.
        return None;
    }
    if let Some(owner) = stranger(&found) {
        let message = format!("{shown} belongs to user {owner}, which can change it");
        return Some(Distrust { message, help: format!("chown root {shown}") });
    }
    let open = found.mode() & OTHERS_WRITE;
    if open == 0 || found.is_dir() && found.mode() & STICKY != 0 {
        return None;
    }
    let who = if open & 0o002 != 0 { "any user" } else { "its group" };
    let mode = found.mode() & 0o7777;
    let message = format!("{who} may write to {shown} (mode {mode:04o})");
    Some(Distrust { message, help: format!("chmod go-w {shown}") })
}

/// Returns the owner, if it is neither root nor the current user.
fn stranger(found: &Metadata) -> Option<u32> {
    let owner = found.uid();
    (owner != 0 && owner != geteuid().as_raw()).then_some(owner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use tempfile::tempdir;

    use super::*;

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
    }

    #[test]
    fn a_file_and_its_folders_are_looked_at() {
        let folder = tempdir().expect("a folder");
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).expect("a folder");
        set(&inner, 0o755);
        let path = inner.join("hook");
        assert_eq!(check(&path), None, "it is not there yet");
        fs::write(&path, "").expect("written");
        for (mode, bad) in [(0o700, false), (0o755, false), (0o775, true), (0o757, true)] {
            set(&path, mode);
            assert_eq!(check(&path).is_some(), bad, "{mode:o}");
        }
        set(&path, 0o755);
        set(&inner, 0o777);
        let found = check(&path).expect("the folder is open");
        assert_eq!(found.help, format!("chmod go-w {}", inner.display()));
        set(&inner, 0o1777);
        assert_eq!(check(&path), None, "nobody may rename what is not his");
    }

    #[test]
    fn links_are_followed() {
        let folder = tempdir().expect("a folder");
        let [real, link] = ["real", "link"].map(|name| folder.path().join(name));
        fs::write(&real, "").expect("written");
        set(&real, 0o666);
        symlink("real", &link).expect("a link");
        let found = check(&link).expect("what it leads to is open");
        assert!(found.message.contains("any user may write to"), "{found:?}");
        symlink("loop", folder.path().join("loop")).expect("a link");
        assert_eq!(check(&folder.path().join("loop")), None);
    }
}
