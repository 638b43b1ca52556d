// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a host says of KVM.

use super::*;

#[test]
fn kvm_that_may_not_be_used_names_the_group_to_join() {
    let mut world = World::good();
    world.nodes.kvm = Err(EACCES);
    let kvm = Node {
        group: 104,
        mode: 0o660,
    };
    world.nodes.owners.insert("/dev/kvm", kvm);
    world.expect(
        "kvm",
        Level::Missing,
        "Permission denied",
        "usermod -aG kvm",
    );
    assert!(!world.report().can_run() && !world.report().can_pass_through());
    for node in [
        Node {
            group: 104,
            mode: 0o600,
        },
        Node {
            group: 0,
            mode: 0o660,
        },
    ] {
        world.nodes.owners.insert("/dev/kvm", node);
        world.expect(
            "kvm",
            Level::Missing,
            "Permission denied",
            "chmod 660 /dev/kvm",
        );
    }
}

#[test]
fn absent_kvm_is_explained_by_processor_and_modules() {
    let mut world = World::good();
    world.nodes.kvm = Err(ENOENT);
    world.expect("kvm", Level::Missing, "there is no /dev/kvm", "CONFIG_KVM");
    let list = "lib/modules/6.17.3-amd64/modules.dep";
    world.write(
        list,
        "kernel/arch/x86/kvm/kvm-intel.ko.xz: kernel/arch/x86/kvm/kvm.ko.xz",
    );
    world.expect("kvm", Level::Missing, "", "sudo modprobe kvm_intel");
    world.write("proc/cpuinfo", "flags\t\t: fpu hypervisor");
    world.expect("kvm", Level::Missing, "", "nested virtualization");
    world.write("proc/cpuinfo", "flags\t\t: fpu");
    world.expect("kvm", Level::Missing, "", "in the firmware");
}

#[test]
fn kvm_kind_tells_hardware_nested_and_emulated_apart() {
    let mut world = World::good();
    world.expect(
        "kvm-kind",
        Level::Ok,
        "Intel VMX of the hardware, which guests can have",
        "",
    );
    let facts = |under: &str| {
        Ok(KvmFacts {
            version: 12,
            lacks: vec![],
            vcpus: 1,
            hypervisor: Some(under.to_owned()),
        })
    };
    world.nodes.kvm = facts("KVMKVMKVM");
    world.expect("kvm-kind", Level::Ok, "nested in a VM of KVM", "exits");
    world.write("proc/cpuinfo", "flags\t\t: fpu svm hypervisor");
    world.nodes.kvm = facts("TCGTCGTCGTCG");
    world.expect(
        "kvm-kind",
        Level::Warning,
        "AMD SVM emulated in software by QEMU (TCG):",
        "within one run",
    );
}

#[test]
fn kvm_on_a_processor_without_virtualization_works_in_software() {
    let world = World::good();
    world.write("proc/cpuinfo", "flags\t\t: fpu hypervisor");
    world.expect("kvm-kind", Level::Warning, "in software", "Linux guest");
    assert!(world.report().can_run());
}

#[test]
fn kvm_without_a_needed_feature_runs_nothing() {
    let mut world = World::good();
    world.nodes.kvm = Ok(KvmFacts {
        version: 11,
        lacks: vec!["irqfds"],
        vcpus: 1,
        hypervisor: None,
    });
    world.expect("kvm", Level::Missing, "API version 11, not 12", "kernel");
    world.expect("kvm-features", Level::Missing, "lacks irqfds", "kernel");
    assert!(!world.report().can_run());
}
