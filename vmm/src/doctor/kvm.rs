// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! KVM: whether it is there, may be used, what kind it is and whether it has what a machine needs.

use super::host::{Host, KvmFacts};
use super::nodes;
use super::{Need, Row};
use kvm_bindings::KVM_API_VERSION;
use std::io;

const NODE: &str = "/dev/kvm";

pub(super) fn rows(host: &Host<'_>) -> Vec<Row> {
    match host.nodes.kvm() {
        Ok(facts) => vec![interface(&facts), kind(host, &facts), features(&facts)],
        Err(error) => vec![absent(host, &error)],
    }
}

fn interface(facts: &KvmFacts) -> Row {
    let version = facts.version;
    if u32::try_from(version) == Ok(KVM_API_VERSION) {
        return Row::ok("kvm", format!("{NODE} can be used, API version {version}"));
    }
    let text = format!("{NODE} speaks API version {version}, not {KVM_API_VERSION}");
    Row::missing("kvm", Need::Vm, text).advise("use a newer kernel")
}

fn absent(host: &Host<'_>, error: &io::Error) -> Row {
    let row = |text: &str| Row::missing("kvm", Need::Vm, format!("{text}: {error}"));
    if error.kind() != io::ErrorKind::NotFound {
        return row(&format!("{NODE} cannot be opened")).advise(nodes::advice(host, NODE, error));
    }
    let row = row(&format!("there is no {NODE}"));
    match processor(host) {
        Some(processor) if host.has_module(processor.module) => {
            let module = processor.module.replace('-', "_");
            row.advise(format!(
                "load the module: sudo modprobe {module}; if that fails, enable {} in the firmware",
                processor.name
            ))
        }
        Some(_) => row.advise("use a kernel with KVM (CONFIG_KVM and CONFIG_KVM_INTEL or CONFIG_KVM_AMD)"),
        None if is_virtual(host) => row.advise(
            "this host is itself a VM whose processor has no virtualization: enable nested virtualization in the hypervisor under it",
        ),
        None => row.advise("enable virtualization (VT-x or SVM) in the firmware"),
    }
}

/// A kind of hardware virtualization.
struct Processor {
    name: &'static str,
    flag: &'static str,
    module: &'static str,
    /// The module's directory in `/sys/module`.
    directory: &'static str,
}

const PROCESSORS: [Processor; 2] = [
    Processor {
        name: "Intel VMX",
        flag: "vmx",
        module: "kvm-intel",
        directory: "sys/module/kvm_intel",
    },
    Processor {
        name: "AMD SVM",
        flag: "svm",
        module: "kvm-amd",
        directory: "sys/module/kvm_amd",
    },
];

/// Flags of the first processor.
fn flags(host: &Host<'_>) -> Vec<String> {
    let flags = host
        .files
        .field("proc/cpuinfo", "flags")
        .unwrap_or_default();
    flags.split_whitespace().map(str::to_owned).collect()
}

fn processor(host: &Host<'_>) -> Option<&'static Processor> {
    let flags = flags(host);
    PROCESSORS
        .iter()
        .find(|processor| flags.iter().any(|flag| flag == processor.flag))
}

fn is_virtual(host: &Host<'_>) -> bool {
    flags(host).iter().any(|flag| flag == "hypervisor")
}

/// What kind of KVM it is, as far as it can be told.
fn kind(host: &Host<'_>, facts: &KvmFacts) -> Row {
    // Not by the modules: a kernel with both built in shows both.
    let Some(processor) = processor(host) else {
        return Row::warning(
            "kvm-kind",
            "KVM without VMX or SVM: it does the processor's work in software",
        )
        .advise("small bare-metal guests run; a Linux guest may take minutes to boot, or meet an instruction that is not emulated");
    };
    let (name, nested) = (processor.name, guests_can_nest(host, processor));
    match facts.hypervisor.as_deref() {
        None => Row::ok("kvm-kind", format!("{name} of the hardware{nested}")),
        Some("TCGTCGTCGTCG") => Row::warning(
            "kvm-kind",
            format!("{name} emulated in software by QEMU (TCG){nested}: right, but slow"),
        )
        .advise("figures of speed measured here mean nothing by themselves; compare only within one run"),
        Some(under) => Row::ok(
            "kvm-kind",
            format!("{name} nested in a VM of {}{nested}", maker(under)),
        )
        .advise("exits of guests cost several times what they cost on the hardware"),
    }
}

/// What to add about guests that run guests.
fn guests_can_nest(host: &Host<'_>, processor: &Processor) -> &'static str {
    let path = format!("{}/parameters/nested", processor.directory);
    match host.files.text(&path) {
        Some(on) if on == "1" || on == "Y" => ", which guests can have too",
        _ => "",
    }
}

/// Whose signature it is.
fn maker(signature: &str) -> &str {
    match signature {
        "KVMKVMKVM" => "KVM",
        "Microsoft Hv" => "Hyper-V",
        "VMwareVMware" => "VMware",
        "XenVMMXenVMM" => "Xen",
        other => other,
    }
}

fn features(facts: &KvmFacts) -> Row {
    if facts.lacks.is_empty() {
        let text = format!("all that a machine needs, up to {} processors", facts.vcpus);
        return Row::ok("kvm-features", text);
    }
    let text = format!("this KVM lacks {}", facts.lacks.join(", "));
    Row::missing("kvm-features", Need::Vm, text).advise("use a newer kernel")
}
