//! `cargo xtask VERB`: everything that a developer or a CI does with this repository, one file per
//! verb.

mod apt;
mod architecture;
mod bench;
mod build;
mod dist;
mod fuzz;
mod libtest;
mod lint;
mod process;
mod run;
mod screenshots;
mod setup;
mod soak;
mod test;
mod vm;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Works on linkbal's repository")]
enum Verb {
    /// Install what is missing to build, run and test: Debian packages and the eBPF toolchain
    Setup,
    /// Build target/release/linkbal
    Build,
    /// Make packages for gateways in target/packages: .deb, tarball, sums and list of crates
    Dist(dist::Arguments),
    /// Run linkbal with a configuration, or its lab where there is none
    Run(run::Arguments),
    /// Run all tests, those that need root included
    Test(test::Arguments),
    /// Run tests in virtual machines with Debian's kernels
    Vm(vm::Arguments),
    /// Run the fuzz targets: invented inputs for everything that reads foreign data
    Fuzz(fuzz::Arguments),
    /// Run linkbal for hours, with outages, crashes, floods and other people's rules
    Soak(soak::Arguments),
    /// Make the pictures of the page in the documents
    Screenshots(screenshots::Arguments),
    /// Measure the cost of linkbal on this machine
    Bench {
        /// Measurement to run
        #[command(subcommand)]
        which: Option<bench::Bench>,
    },
    /// Check format, clippy, documentation and the layering of the code
    Lint,
}

fn main() -> ExitCode {
    let done = match Verb::parse() {
        Verb::Setup => setup::setup_and_report(),
        Verb::Build => build::build(),
        Verb::Dist(arguments) => dist::dist(&arguments),
        Verb::Run(arguments) => run::run(&arguments),
        Verb::Test(arguments) => test::test(&arguments),
        Verb::Vm(arguments) => vm::vm(&arguments),
        Verb::Fuzz(arguments) => fuzz::fuzz(&arguments),
        Verb::Soak(arguments) => soak::soak(&arguments),
        Verb::Screenshots(arguments) => screenshots::screenshots(&arguments),
        Verb::Bench { which } => bench::bench(which),
        Verb::Lint => lint::lint(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
