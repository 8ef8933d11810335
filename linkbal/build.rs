//! Build script: compiles the eBPF object from source to `OUT_DIR/linkbal`.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use aya_build::{Package, Toolchain};
use object::{
    build::elf::{Builder, SectionData},
    elf::SHT_STRTAB,
};

/// Runs the compiler of the eBPF object so that equal sources make equal objects: no path of this machine
/// gets into its BTF, and LLVM, which orders some types of the BTF by their addresses, has the same ones
/// each time, where that may be asked for. aya-build leaves no other way to add flags of the compiler.
const REPRODUCIBLE: &str = r#"#!/bin/sh
sysroot=$("$1" --print sysroot)
if setarch --addr-no-randomize true 2>/dev/null; then
    set -- setarch --addr-no-randomize "$@"
fi
exec "$@" --remap-path-prefix="$LINKBAL_WORKSPACE=/linkbal" --remap-path-prefix="$LINKBAL_CARGO_HOME=/cargo" \
    --remap-path-prefix="$sysroot=/rust"
"#;

/// The toolchain that `cargo xtask setup` links if there is no nightly.
const LINKED_TOOLCHAIN: &str = "linkbal-bpf";

fn main() -> Result<()> {
    println!("cargo:rerun-if-env-changed=LINKBAL_BPF_TOOLCHAIN");
    println!("cargo:rerun-if-env-changed=LINKBAL_WITHOUT_EBPF");
    println!("cargo:rerun-if-changed=../linkbal-common");
    if env::var_os("LINKBAL_WITHOUT_EBPF").is_some() {
        return leave_out();
    }
    add_linker_to_path()?;
    make_reproducible()?;
    share_target_dir()?;
    // SAFETY: a build script has no other threads here.
    unsafe {
        // A release compiler refuses the one unstable feature of aya-ebpf without this.
        env::set_var("RUSTC_BOOTSTRAP", "aya_ebpf");
        // Incremental code generation inlines less, and the stack of the programs then exceeds what
        // the verifier allows.
        env::set_var("CARGO_INCREMENTAL", "0");
    }
    let toolchain = toolchain();
    let package = Package {
        name: "linkbal-ebpf",
        root_dir: concat!(env!("CARGO_MANIFEST_DIR"), "/../linkbal-ebpf"),
        ..Package::default()
    };
    aya_build::build_ebpf([package], Toolchain::Custom(&toolchain)).with_context(|| {
        format!(
            "failed to build the eBPF object with toolchain {toolchain}: run `cargo xtask setup`"
        )
    })?;
    let object = object_path()?;
    strip_dwarf(&object).with_context(|| format!("failed to strip {}", object.display()))
}

fn out_dir() -> Result<PathBuf> {
    Ok(env::var_os("OUT_DIR").context("OUT_DIR is not set")?.into())
}

fn object_path() -> Result<PathBuf> {
    Ok(out_dir()?.join("linkbal"))
}

/// Lets all runs of this script for a profile share the directory in which aya-build has cargo build the
/// object: each set of features has a run of its own, and they all make the same object.
fn share_target_dir() -> Result<()> {
    let own = out_dir()?.join("aya-build");
    // OUT_DIR is PROFILE/build/linkbal-HASH/out.
    let shared = own.ancestors().nth(4).context("OUT_DIR is too short")?.join("ebpf");
    fs::create_dir_all(&shared)?;
    if fs::read_link(&own).is_ok_and(|to| to == shared) {
        return Ok(());
    }
    let _ = fs::remove_dir_all(&own);
    symlink(&shared, &own).with_context(|| format!("failed to link {}", own.display()))
}

/// Removes DWARF, six sevenths of the object: bpf-linker makes BTF of it, and nobody reads it after that.
/// Whatever stays is read at each start, and would be memory of the daemon.
fn strip_dwarf(object: &Path) -> Result<()> {
    let whole = fs::read(object)?;
    let mut elf = Builder::read(&*whole)?;
    for section in &mut elf.sections {
        let name = section.name.as_slice();
        section.delete = name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    }
    elf.delete_orphans();
    // LLVM keeps the names of sections among those of symbols; the writer wants them apart.
    let names = elf.sections.add();
    names.name = ".shstrtab".into();
    names.sh_type = SHT_STRTAB;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    elf.write(&mut stripped)?;
    Ok(fs::write(object, stripped)?)
}

/// Writes an empty object: fuzz targets load no program, and so need no eBPF toolchain.
fn leave_out() -> Result<()> {
    let object = object_path()?;
    fs::write(&object, []).with_context(|| format!("failed to write {}", object.display()))
}

/// Puts the bpf-linker that `cargo xtask setup` installs before any other.
fn add_linker_to_path() -> Result<()> {
    let Some(home) = env::var_os("HOME").map(PathBuf::from) else { return Ok(()) };
    let cache = env::var_os("XDG_CACHE_HOME").map_or(home.join(".cache"), PathBuf::from);
    let old = env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(cache.join("linkbal/bin")).chain(env::split_paths(&old));
    let path = env::join_paths(all)?;
    // SAFETY: a build script has no other threads here.
    unsafe { env::set_var("PATH", path) };
    Ok(())
}

/// Lets cargo run the compiler by [`REPRODUCIBLE`].
fn make_reproducible() -> Result<()> {
    let wrapper = out_dir()?.join("rustc");
    fs::write(&wrapper, REPRODUCIBLE)?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
    let home = PathBuf::from(env::var_os("HOME").unwrap_or_default());
    let cargo_home = env::var_os("CARGO_HOME").map_or(home.join(".cargo"), PathBuf::from);
    // SAFETY: a build script has no other threads here.
    unsafe {
        env::set_var("RUSTC_WRAPPER", wrapper);
        env::set_var("LINKBAL_WORKSPACE", workspace);
        env::set_var("LINKBAL_CARGO_HOME", cargo_home);
    }
    Ok(())
}

fn toolchain() -> String {
    if let Ok(chosen) = env::var("LINKBAL_BPF_TOOLCHAIN") {
        return chosen;
    }
    let listed = Command::new("rustup").args(["toolchain", "list"]).output();
    let linked = listed.is_ok_and(|output| {
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .any(|line| line.starts_with(LINKED_TOOLCHAIN))
    });
    if linked { LINKED_TOOLCHAIN.into() } else { "nightly".into() }
}
