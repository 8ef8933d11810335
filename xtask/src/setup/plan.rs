//! The plan: from the state of a machine to the steps that it needs. Decides only.

use super::{Need, machine::Machine, step::Step};

/// Returns the steps that are missing, in their order; none if the machine is ready.
pub(super) fn plan(need: Need, machine: &Machine) -> Vec<Step> {
    if need == Need::Fuzz {
        let packages = &machine.missing_fuzz_tools;
        return if packages.is_empty() { vec![] } else { vec![Step::Packages(packages.clone())] };
    }
    let mut packages = Vec::new();
    let cross = matches!(need, Need::Dist | Need::VmArm64);
    if need == Need::Dist {
        packages.extend(&machine.missing_dist_tools);
    }
    if cross {
        packages.extend(&machine.missing_cross_tools);
    }
    if need >= Need::Run {
        packages.extend(&machine.missing_tools);
    }
    if need >= Need::Test {
        packages.extend(&machine.missing_test_tools);
    }
    if need >= Need::Vm {
        packages.extend(&machine.missing_vm_tools);
    }
    if need == Need::VmArm64 {
        packages.extend(&machine.missing_vm_arm64_tools);
    }
    if !machine.own_toolchain {
        packages.extend(&machine.missing_compiler);
    }
    let mut steps = Vec::new();
    if !packages.is_empty() {
        steps.push(Step::Packages(packages));
    }
    if need >= Need::Test && !machine.python {
        steps.push(Step::InstallPython);
    }
    if !machine.own_toolchain {
        if machine.rustup && !machine.linked {
            steps.push(Step::LinkToolchain);
        }
        if !machine.linker {
            steps.push(Step::BuildLinker);
        }
    }
    if need == Need::Lint && !machine.cargo_deny {
        steps.push(Step::InstallCargoDeny);
    }
    if need == Need::Dist && !machine.cargo_deb {
        steps.push(Step::InstallCargoDeb);
    }
    if cross && !machine.arm64 {
        steps.push(Step::UnpackArm64);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> Machine {
        Machine {
            debian: true,
            rustup: true,
            linked: true,
            own_toolchain: false,
            linker: true,
            python: true,
            cargo_deb: true,
            cargo_deny: true,
            arm64: true,
            missing_fuzz_tools: vec![],
            missing_tools: vec![],
            missing_test_tools: vec![],
            missing_vm_tools: vec![],
            missing_vm_arm64_tools: vec![],
            missing_cross_tools: vec![],
            missing_dist_tools: vec![],
            missing_compiler: vec![],
        }
    }

    fn bare() -> Machine {
        Machine {
            linked: false,
            linker: false,
            python: false,
            missing_fuzz_tools: vec!["g++"],
            missing_tools: vec!["nftables"],
            missing_test_tools: vec!["squid"],
            missing_compiler: vec!["rustc-web"],
            ..ready()
        }
    }

    #[test]
    fn a_ready_machine_needs_nothing() {
        assert_eq!(plan(Need::Test, &ready()), []);
    }

    #[test]
    fn a_bare_machine_needs_everything() {
        let packages = Step::Packages(vec!["nftables", "squid", "rustc-web"]);
        let steps = [packages, Step::InstallPython, Step::LinkToolchain, Step::BuildLinker];
        assert_eq!(plan(Need::Test, &bare()), steps);
    }

    #[test]
    fn only_tests_need_the_programs_of_the_lab() {
        let machine = Machine { missing_test_tools: vec!["squid"], ..ready() };
        assert_eq!(plan(Need::Run, &machine), []);
        assert_eq!(plan(Need::Test, &machine), [Step::Packages(vec!["squid"])]);
        let machine = Machine { python: false, ..ready() };
        assert_eq!(plan(Need::Run, &machine), []);
        assert_eq!(plan(Need::Test, &machine), [Step::InstallPython]);
    }

    #[test]
    fn only_virtual_machines_need_qemu() {
        let machine = Machine { missing_vm_tools: vec!["qemu-system-x86"], ..ready() };
        assert_eq!(plan(Need::Test, &machine), []);
        assert_eq!(plan(Need::Vm, &machine), [Step::Packages(vec!["qemu-system-x86"])]);
    }

    #[test]
    fn fuzzing_needs_a_cpp_compiler_and_no_ebpf() {
        assert_eq!(plan(Need::Fuzz, &bare()), [Step::Packages(vec!["g++"])]);
        assert_eq!(plan(Need::Fuzz, &ready()), []);
    }

    #[test]
    fn only_packages_need_another_architecture() {
        let machine = Machine {
            cargo_deb: false,
            arm64: false,
            missing_dist_tools: vec!["lintian"],
            missing_test_tools: vec!["squid"],
            ..ready()
        };
        let packages = Step::Packages(vec!["lintian"]);
        let steps = [packages, Step::InstallCargoDeb, Step::UnpackArm64];
        assert_eq!(plan(Need::Dist, &machine), steps);
        let machine = Machine { missing_test_tools: vec![], ..machine };
        assert_eq!(plan(Need::Vm, &machine), []);
    }

    #[test]
    fn guests_of_another_architecture_need_what_builds_for_it_and_no_packages() {
        let machine = Machine {
            cargo_deb: false,
            arm64: false,
            missing_dist_tools: vec!["lintian"],
            missing_cross_tools: vec!["gcc-aarch64-linux-gnu"],
            missing_vm_arm64_tools: vec!["qemu-system-arm"],
            ..ready()
        };
        let packages = Step::Packages(vec!["gcc-aarch64-linux-gnu", "qemu-system-arm"]);
        assert_eq!(plan(Need::VmArm64, &machine), [packages, Step::UnpackArm64]);
        assert_eq!(plan(Need::Vm, &machine), []);
    }

    #[test]
    fn only_checks_need_the_one_for_licences() {
        let machine = Machine { cargo_deny: false, ..ready() };
        assert_eq!(plan(Need::Lint, &machine), [Step::InstallCargoDeny]);
        assert_eq!(plan(Need::Vm, &machine), []);
    }

    #[test]
    fn a_build_needs_no_network_tools() {
        let machine = Machine { missing_tools: vec!["nftables"], ..ready() };
        assert_eq!(plan(Need::Build, &machine), []);
    }

    #[test]
    fn an_own_toolchain_is_enough() {
        let machine = Machine { own_toolchain: true, ..bare() };
        assert_eq!(plan(Need::Build, &machine), []);
        assert_eq!(plan(Need::Run, &machine), [Step::Packages(vec!["nftables"])]);
    }

    #[test]
    fn without_rustup_there_is_nothing_to_link() {
        let machine = Machine { rustup: false, ..bare() };
        assert!(!plan(Need::Build, &machine).contains(&Step::LinkToolchain));
    }
}
