//! The archive that the kernel unpacks into its first file system: "newc"
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::io::{Result, Write};

/// File types of inode(7).
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const DEVICE: u32 = 0o020_000;

/// A writer of one archive.
pub(super) struct Archive<W> {
    out: W,
    entries: u32,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, entries: 0 }
    }

    /// Adds a folder. Paths are relative to the root, and a folder comes before what is in it.
    pub(super) fn directory(&mut self, path: &str) -> Result<()> {
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[])
    }

    pub(super) fn file(&mut self, path: &str, permissions: u32, content: &[u8]) -> Result<()> {
        self.entry(path, FILE | permissions, (0, 0), content)
    }

    pub(super) fn symlink(&mut self, path: &str, target: &str) -> Result<()> {
        self.entry(path, SYMLINK | 0o777, (0, 0), target.as_bytes())
    }

    /// Adds a character device.
    pub(super) fn device(&mut self, path: &str, number: (u32, u32)) -> Result<()> {
        self.entry(path, DEVICE | 0o600, number, &[])
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> Result<()> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        self.out.flush()
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) -> Result<()> {
        self.entries += 1;
        let size = u32::try_from(content.len()).map_err(std::io::Error::other)?;
        let name_size = path.len() as u32 + 1;
        // Inode, mode, owner, group, links, time, size, devices of the file and the node, name,
        // checksum.
        let (major, minor) = device;
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0];
        write!(self.out, "070701")?;
        for field in fields {
            write!(self.out, "{field:08X}")?;
        }
        self.out.write_all(path.as_bytes())?;
        self.out.write_all(&[0])?;
        self.align(110 + path.len() + 1)?;
        self.out.write_all(content)?;
        self.align(content.len())
    }

    /// Fills up to a multiple of four.
    fn align(&mut self, length: usize) -> Result<()> {
        self.out.write_all(&[0; 3][..length.next_multiple_of(4) - length])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_laid_out_as_the_kernel_wants_it() -> Result<()> {
        let mut out = Vec::new();
        let mut archive = Archive::new(&mut out);
        archive.file("a", 0o755, b"hello")?;
        archive.finish()?;
        let header = "07070100000001000081ED00000000000000000000000100000000\
                      0000000500000000000000000000000000000000\
                      0000000200000000";
        assert_eq!(&out[..110], header.as_bytes());
        assert_eq!(&out[110..120], b"a\0hello\0\0\0");
        assert!(out.len().is_multiple_of(4) && out[120..].starts_with(b"070701"));
        Ok(())
    }
}
