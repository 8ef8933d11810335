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

/// Returns the paths in the output of `ldd`: `NAME => PATH (ADDRESS)` or `PATH (ADDRESS)`.
pub(super) fn libraries(listed: &str) -> impl Iterator<Item = &str> {
    listed.split_whitespace().filter(|word| word.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_recognised_by_their_paths() {
        let listed = "\tlinux-vdso.so.1 (0x7f)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x7e)\n\
                      \t/lib64/ld.so.2 (0x7d)\n";
        assert!(libraries(listed).eq(["/lib/x/libc.so.6", "/lib64/ld.so.2"]));
    }

    #[test]
    fn merged_folders_are_below_usr() {
        assert_eq!(place(Path::new("/lib64/ld.so.2")), "usr/lib64/ld.so.2");
        assert_eq!(place(Path::new("/usr/sbin/nft")), "usr/sbin/nft");
        assert_eq!(place(Path::new("/etc/group")), "etc/group");
    }
}
