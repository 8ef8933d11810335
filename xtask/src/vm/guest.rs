//! A virtual machine from its start to its end.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{architecture::Architecture, libtest::failed_tests, process::succeed};

/// Maximum time until a guest is ready.
const BOOT: Duration = Duration::from_secs(180);
/// Maximum time until a guest is ready that counts its instructions.
const BOOT_COUNTING: Duration = Duration::from_secs(600);
/// Maximum time until a guest is ready with an accelerator: some machines offer one that hangs.
const BOOT_KVM: Duration = Duration::from_secs(30);
/// Maximum time without output of a guest: a test ends within this time.
const SILENCE: Duration = Duration::from_secs(300);
/// Maximum time of a guest in all.
const WHOLE: Duration = Duration::from_secs(3600);
/// Number of lines of the kernel's console that are shown when a guest went wrong.
const CONSOLE_LINES: usize = 30;
/// Size of the disk for what a guest leaves, in bytes; only what is used takes space here.
const DISK: u64 = 256 << 20;

/// Prefixes of the lines that begin and end the guest's output (see init.sh).
const READY: &str = "guest: ready after ";
const EXIT: &str = "guest: exit ";

/// The machine that a guest runs on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Machine {
    /// Two processors, with an accelerator if there is one that works.
    Fast,
    /// One processor, each of whose instructions takes one nanosecond of the guest's time.
    Counting,
}

/// A guest to run.
pub(super) struct Guest<'a> {
    pub(super) machine: Machine,
    pub(super) architecture: Architecture,
    pub(super) name: &'a str,
    pub(super) image: &'a Path,
    pub(super) initramfs: &'a Path,
    /// The folder of its console, its disk and its results.
    pub(super) folder: PathBuf,
}

/// The result of a guest.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Output of the tests.
    pub(super) output: String,
    /// Time to boot, in seconds of the guest's own clock.
    pub(super) booted_after_s: f64,
    /// Exit status of the test programs; `None` if the guest did not come so far.
    status: Option<i32>,
    /// The reason for which the guest was ended, if it was.
    gave_up: Option<&'static str>,
    /// The end of the kernel's console.
    console: String,
}

impl Report {
    /// Returns the failure, if there was one.
    pub(super) fn failed(&self) -> Option<String> {
        let failed = failed_tests(&self.output);
        let reason = match (self.status, self.gave_up) {
            (Some(0), _) => return None,
            (Some(status), _) if failed.is_empty() => return Some(format!("exit status {status}")),
            (Some(_), _) => return Some(format!("failed: {}", failed.join(", "))),
            (None, Some(reason)) => reason,
            (None, None) => "the guest ended early",
        };
        let during = running_test(&self.output).map(|test| format!(" in test {test}"));
        let during = during.unwrap_or_default();
        Some(format!("{reason}{during}; its console ends:\n{}", self.console))
    }
}

impl Guest<'_> {
    /// Runs the guest to its end, on a fast machine with an accelerator if there is one that works.
    ///
    /// # Errors
    /// If qemu cannot be started, or the results cannot be unpacked. Failures inside are in the
    /// report.
    pub(super) fn run(&self) -> Result<Report> {
        if self.machine == Machine::Counting {
            return self.run_with("tcg", BOOT_COUNTING);
        }
        if self.architecture == Architecture::Amd64 && has_accelerator() {
            let report = self.run_with("kvm", BOOT_KVM)?;
            if report.output.contains(READY) {
                return Ok(report);
            }
            println!("vm: the accelerator of this machine does not work, going on without");
        }
        self.run_with("tcg", BOOT)
    }

    fn run_with(&self, accelerator: &str, boot: Duration) -> Result<Report> {
        let (disk, console) = (self.folder.join("disk.img"), self.folder.join("console.log"));
        let empty_disk = || fs::File::create(&disk)?.set_len(DISK);
        empty_disk().with_context(|| format!("failed to create {}", disk.display()))?;
        println!("{}: booting ({accelerator})", self.name);
        let mut qemu = self.qemu(accelerator, &disk, &console);
        let mut child = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let child = child.as_mut().map_err(|error| anyhow::anyhow!("{error}"));
        let child = child.with_context(|| format!("failed to start {}", self.program()))?;
        let mut report = watch(child, boot)?;
        // It has ended, or must.
        let _ = child.kill();
        child.wait().context("failed to wait for qemu")?;
        report.console = tail(&fs::read_to_string(&console).unwrap_or_default());
        if report.status.is_some() {
            self.unpack(&disk)?;
        }
        let _ = fs::remove_file(&disk);
        Ok(report)
    }

    fn qemu(&self, accelerator: &str, disk: &Path, console: &Path) -> Command {
        let mut qemu = Command::new(self.program());
        let (machine, cpu) = match self.architecture {
            Architecture::Amd64 if accelerator == "kvm" => ("q35", "host"),
            Architecture::Amd64 => ("q35", "Nehalem"),
            Architecture::Arm64 => ("virt", "cortex-a72"),
        };
        qemu.args(["-machine", machine, "-accel", accelerator, "-cpu", cpu]);
        let processors = match self.machine {
            Machine::Fast => ["-smp", "2"].as_slice(),
            // Idle time passes at once.
            Machine::Counting => &["-smp", "1", "-icount", "shift=0,sleep=off"],
        };
        qemu.args(processors);
        qemu.args(["-m", "2048", "-nodefaults", "-display", "none", "-no-reboot"]);
        qemu.arg("-kernel").arg(self.image).arg("-initrd").arg(self.initramfs);
        // What the kernel does not know is for init.sh: the port that the tests write to.
        let ports = match self.architecture {
            Architecture::Amd64 => "console=ttyS0 port=ttyS1",
            Architecture::Arm64 => "console=ttyAMA0 port=ttyS0",
        };
        // A guest that panics ends: it reboots at once, which qemu is told not to do.
        qemu.arg("-append").arg(format!("{ports} quiet panic=-1 mitigations=off"));
        qemu.arg("-serial").arg(format!("file:{}", console.display()));
        match self.architecture {
            Architecture::Amd64 => qemu.args(["-serial", "stdio"]),
            // The board has one port of its own.
            Architecture::Arm64 => {
                qemu.args(["-chardev", "stdio,id=tests", "-device", "pci-serial,chardev=tests"])
            }
        };
        qemu.arg("-drive").arg(format!("if=virtio,format=raw,file={}", disk.display()));
        qemu
    }

    fn program(&self) -> String {
        format!("qemu-system-{}", self.architecture.machine())
    }

    /// Unpacks what the guest left on its disk.
    fn unpack(&self, disk: &Path) -> Result<()> {
        let results = results(&self.folder);
        let _ = fs::remove_dir_all(&results);
        fs::create_dir_all(&results)
            .with_context(|| format!("failed to create {}", results.display()))?;
        let options = ["--extract", "--no-same-owner", "--file"];
        succeed(Command::new("tar").arg("-C").arg(&results).args(options).arg(disk))
    }
}

/// Returns the folder with what the guest left: what tests wrote to `$LINKBAL_RESULTS`, and `dmesg`.
pub(super) fn results(folder: &Path) -> PathBuf {
    folder.join("results")
}

/// Returns whether KVM can be used. A processor without the extension may still have the device,
/// which hangs.
fn has_accelerator() -> bool {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let extended = processor.split_whitespace().any(|flag| flag == "vmx" || flag == "svm");
    extended && fs::File::options().read(true).write(true).open("/dev/kvm").is_ok()
}

/// Shows the output of the guest until it ends, or its time is over.
fn watch(child: &mut Child, boot: Duration) -> Result<Report> {
    let chunks = read(child)?;
    let start = Instant::now();
    let mut report = Report::default();
    let mut seen = Vec::new();
    loop {
        let ready = report.booted_after_s > 0.0;
        let limit = if ready { SILENCE } else { boot };
        match chunks.recv_timeout(limit) {
            Ok(chunk) => {
                show(&chunk)?;
                seen.extend_from_slice(&chunk);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if !ready => {
                report.gave_up = Some("the guest did not boot");
                break;
            }
            Err(RecvTimeoutError::Timeout) => {
                report.gave_up = Some("the guest has been silent for too long");
                break;
            }
        }
        report.output = String::from_utf8_lossy(&seen).into_owned();
        let number = |key| report.output.lines().rev().find_map(|line| line.strip_prefix(key));
        report.booted_after_s = number(READY)
            .and_then(|text| text.trim_end_matches(" s").parse().ok())
            .unwrap_or_default();
        if start.elapsed() > WHOLE {
            report.gave_up = Some("the guest took too long in all");
            break;
        }
    }
    let exit = report.output.lines().find_map(|line| line.strip_prefix(EXIT));
    report.status = exit.and_then(|status| status.parse().ok());
    Ok(report)
}

/// Reads the guest's second serial port in the background.
fn read(child: &mut Child) -> Result<Receiver<Vec<u8>>> {
    let mut pipe = child.stdout.take().context("standard output is not piped")?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(length @ 1..) = pipe.read(&mut chunk) {
            // Without the carriage returns of a terminal's line ends.
            let text = chunk[..length].iter().copied().filter(|byte| *byte != b'\r').collect();
            if sender.send(text).is_err() {
                break;
            }
        }
    });
    Ok(receiver)
}

fn show(chunk: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout();
    Ok(stdout.write_all(chunk).and_then(|()| stdout.flush())?)
}

/// Returns the last lines of a text.
fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n")
}

/// Returns the test that libtest began last and has not reported since.
fn running_test(output: &str) -> Option<&str> {
    output.lines().last()?.strip_prefix("test ")?.strip_suffix(" ... ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str =
        "guest: ready after 5.1 s\ntest a::b ... ok\ntest c ... FAILED\ntest d ... ";

    #[test]
    fn failures_name_the_test() {
        let report = Report { output: OUTPUT.into(), status: Some(1), ..Report::default() };
        assert_eq!(report.failed().as_deref(), Some("failed: c"));
        let console = "Kernel panic".to_owned();
        let report = Report { status: None, console, ..report };
        let wanted = "the guest ended early in test d; its console ends:\nKernel panic";
        assert_eq!(report.failed().as_deref(), Some(wanted));
    }

    #[test]
    fn a_silent_guest_is_given_up() -> Result<()> {
        let mut child = Command::new("sleep").arg("60").stdout(Stdio::piped()).spawn()?;
        let report = watch(&mut child, Duration::from_millis(10))?;
        child.kill()?;
        child.wait()?;
        assert_eq!(report.gave_up, Some("the guest did not boot"));
        Ok(())
    }

    #[test]
    fn the_status_and_the_time_to_boot_are_read_from_the_output() -> Result<()> {
        let script =
            "printf 'guest: ready after 5.1 s\\r\\ntest a ... ok\\r\\nguest: exit 0\\r\\n'";
        let mut child = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn()?;
        let report = watch(&mut child, Duration::from_secs(60))?;
        child.wait()?;
        assert_eq!((report.status, report.booted_after_s), (Some(0), 5.1));
        assert_eq!(report.failed(), None);
        Ok(())
    }
}
