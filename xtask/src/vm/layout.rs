//! The place of a file in the guest's file system, and the libraries that a program loads.

use std::path::Path;

/// Debian's old names of folders that are below `/usr` now.
pub(super) const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// Returns the path in the archive of a file of this machine.
pub(super) fn place(path: &Path) -> String {
    let path = path.to_string_lossy();
    let path = path.trim_start_matches('/');
    let merged = MERGED.iter().any(|old| path.split('/').next() == Some(old));
    if merged { format!("usr/{path}") } else { path.to_owned() }
}

/// Returns the loader's path and the libraries' names in the output of `readelf -ld`: lines
/// `[Requesting program interpreter: PATH]` and `(NEEDED) Shared library: [NAME]`.
pub(super) fn needed(listed: &str) -> impl Iterator<Item = &str> {
    listed.lines().filter_map(|line| {
        let (_, rest) = line
            .split_once("[Requesting program interpreter: ")
            .or_else(|| line.split_once("Shared library: ["))?;
        Some(rest.trim_end().trim_end_matches(']'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_and_libraries_are_listed() {
        let listed = "  INTERP         0x000318\n      \
                      [Requesting program interpreter: /lib/ld-linux.so.1]\n \
                      0x0001 (NEEDED)             Shared library: [libc.so.6]\n \
                      0x000e (SONAME)             Library soname: [libx.so.1]\n";
        assert!(needed(listed).eq(["/lib/ld-linux.so.1", "libc.so.6"]));
    }

    #[test]
    fn merged_folders_are_below_usr() {
        assert_eq!(place(Path::new("/lib64/ld.so.2")), "usr/lib64/ld.so.2");
        assert_eq!(place(Path::new("/usr/sbin/nft")), "usr/sbin/nft");
        assert_eq!(place(Path::new("/etc/group")), "etc/group");
    }
}
