//! Files of the administrator: another text, with the same owner and mode.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, fchown},
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, access};

use super::{draft_of, rewrite_by};

/// Returns the file itself, where `path` is a link, and its folder.
fn real(path: &Path) -> io::Result<(PathBuf, PathBuf)> {
    let path = fs::canonicalize(path)?;
    let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
    Ok((path, folder))
}

/// Checks that a file could be replaced.
///
/// # Errors
///
/// If it is not there, or its folder cannot be written to.
pub(crate) fn check(path: &Path) -> io::Result<()> {
    let (_, folder) = real(path)?;
    Ok(access(&folder, AccessFlags::W_OK)?)
}

/// Replaces the contents of a file that is there, as [`replace`](super::replace) does; its owner and mode
/// stay, and a link to it goes on to lead there.
///
/// # Errors
///
/// If it cannot be written, or would belong to another user or group; then the old contents stand.
pub(crate) fn exchange(path: &Path, contents: &[u8]) -> io::Result<()> {
    let (path, _) = real(path)?;
    let former = fs::metadata(&path)?;
    rewrite_by(&path, &draft_of(&path), |file| {
        let drafted = file.metadata()?;
        if (drafted.uid(), drafted.gid()) != (former.uid(), former.gid()) {
            fchown(&*file, Some(former.uid()), Some(former.gid()))?;
        }
        file.set_permissions(former.permissions())?;
        file.write_all(contents)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn owner_mode_and_links_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let [real, link] = ["real.toml", "link.toml"].map(|name| folder.path().join(name));
        fs::write(&real, "old").expect("written");
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).expect("its mode");
        symlink("real.toml", &link).expect("a link");
        check(&link).expect("it can be written");
        exchange(&link, b"new").expect("written");
        assert_eq!(fs::read(&real).expect("read"), b"new");
        assert_eq!(fs::metadata(&real).expect("there").mode() & 0o7777, 0o640);
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 2, "no draft is left");
    }

    #[test]
    fn a_name_that_ends_like_a_draft_is_no_draft() {
        let folder = tempfile::tempdir().expect("a folder");
        let names = ["linkbal.toml", "linkbal.new", "linkbal.toml.new", "linkbal.toml.draft"];
        let paths = names.map(|name| folder.path().join(name));
        for path in &paths {
            fs::write(path, "old").expect("written");
        }
        let missing = folder.path().join("no/such/folder");
        for path in &paths {
            exchange(path, b"new").expect("written");
            // The old contents stand after a failure.
            let failed = rewrite_by(path, &draft_of(path), |_| fs::read(&missing));
            assert!(failed.is_err());
            assert_eq!(fs::read(path).expect("read"), b"new", "{}", path.display());
            fs::write(path, "old").expect("written");
            assert!(paths.iter().all(|path| fs::read(path).is_ok_and(|text| text == b"old")));
        }
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), paths.len());
    }

    #[test]
    fn a_file_that_is_not_there_is_not_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("missing");
        assert!(check(&path).is_err() && exchange(&path, b"new").is_err());
        assert!(!path.exists());
    }
}
