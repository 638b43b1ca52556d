// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Nested KVM works without anything of ours: a QEMU inside L1 boots the lab kernel.

use std::time::Duration;

use anyhow::Result;

use crate::images::Guest;
use crate::lab::Lab;
use crate::scenario::{Scenario, Verdict};
use crate::session::in_l1;

pub const SCENARIO: Scenario = Scenario {
    name: "lab-qemu-l2",
    about: "a QEMU in L1 boots the lab kernel by KVM: nested virtualization works without Remora",
    limit: Duration::from_secs(120),
    run,
};

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let initrd = lab.initrd(
        "guest",
        &Guest::script("echo the guest is up on $(nproc) CPUs\n"),
    )?;
    let qemu = format!(
        "qemu-system-x86_64 -accel kvm -machine q35 -cpu host,-xsave -smp 2 -m 512M -nodefaults -display none \
         -serial stdio -no-reboot -kernel {} -initrd {} -append console=ttyS0",
        in_l1(&lab.kernel().bzimage),
        in_l1(&initrd),
    );
    lab.sh("qemu", &qemu)?
        .expect_status(0)?
        .expect("the guest is up on 2 CPUs")?
        .expect("guest: script ended with status 0")?;
    Ok(Verdict::Pass)
}
