//! The architectures of gateways, and how to build for them.

use std::{ffi::OsString, path::PathBuf, process::Command};

use anyhow::Result;

use crate::{
    process::{cargo, target_dir, workspace},
    setup::{LINKED_TOOLCHAIN, arm64_root, cargo_home},
};

/// An architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Architecture {
    /// x86-64.
    Amd64,
    /// 64-bit ARM.
    Arm64,
}

impl Architecture {
    pub(crate) const ALL: [Architecture; 2] = [Architecture::Amd64, Architecture::Arm64];

    /// Returns Debian's name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Architecture::Amd64 => "amd64",
            Architecture::Arm64 => "arm64",
        }
    }

    /// Returns Rust's name.
    pub(crate) const fn target(self) -> &'static str {
        match self {
            Architecture::Amd64 => "x86_64-unknown-linux-gnu",
            Architecture::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// Returns the name of GCC and of Debian's folders of libraries.
    pub(crate) const fn triplet(self) -> &'static str {
        match self {
            Architecture::Amd64 => "x86_64-linux-gnu",
            Architecture::Arm64 => "aarch64-linux-gnu",
        }
    }

    /// Returns the name of qemu, in `qemu-system-NAME`.
    pub(crate) const fn machine(self) -> &'static str {
        match self {
            Architecture::Amd64 => "x86_64",
            Architecture::Arm64 => "aarch64",
        }
    }

    /// Returns a command of cargo that builds static programs, for any libc.
    ///
    /// # Errors
    /// If there is no home directory.
    pub(crate) fn static_build<const N: usize>(self, arguments: [&str; N]) -> Result<Command> {
        let mut build = cargo(arguments);
        build.args(["--target", self.target()]);
        // Plain RUSTFLAGS would be for build scripts and the eBPF object, too.
        build.env(self.variable("RUSTFLAGS"), self.flags()?);
        if self == Architecture::Arm64 {
            let gcc = format!("{}-gcc", self.triplet());
            build.env(self.variable("LINKER"), &gcc);
            build.env("CC_aarch64_unknown_linux_gnu", &gcc);
            // Debian's standard library fits Debian's compiler alone.
            build.env("RUSTUP_TOOLCHAIN", LINKED_TOOLCHAIN);
            build.env("CARGO_TARGET_DIR", self.target_dir()?);
        }
        Ok(build)
    }

    /// Returns the folder that cargo builds in.
    ///
    /// # Errors
    /// If this program does not lie in a target directory.
    pub(crate) fn target_dir(self) -> Result<PathBuf> {
        let shared = target_dir()?;
        Ok(match self {
            Architecture::Amd64 => shared,
            Architecture::Arm64 => shared.join("arm64"),
        })
    }

    fn variable(self, name: &str) -> String {
        format!("CARGO_TARGET_{}_{name}", self.target().to_uppercase().replace('-', "_"))
    }

    /// Returns flags of the compiler: static, and without paths of this machine.
    ///
    /// A static program finds no symbols at run time, and the crate getrandom then takes the kernel for
    /// one without that call: it waits for `/dev/random`, at a boot without entropy for ever, where the
    /// call would have the kernel gather some.
    fn flags(self) -> Result<OsString> {
        let mut flags = OsString::from("-C target-feature=+crt-static");
        flags.push(r#" --cfg getrandom_backend="linux_getrandom""#);
        for (path, name) in [(workspace().to_owned(), "linkbal"), (cargo_home()?, "cargo")] {
            flags.push(" --remap-path-prefix=");
            flags.push(path);
            flags.push(format!("=/{name}"));
        }
        if self == Architecture::Arm64 {
            flags.push(" --sysroot=");
            flags.push(arm64_root()?.join("usr"));
        }
        Ok(flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_name_the_target() {
        let variable = Architecture::Arm64.variable("LINKER");
        assert_eq!(variable, "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER");
    }
}
