// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! L1 is what the other scenarios take for granted.

use std::time::Duration;

use anyhow::Result;

use crate::lab::Lab;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "lab-self",
    about: "L1 has KVM, VFIO, iommufd, an Intel IOMMU at work and devices in groups of their own",
    limit: Duration::from_secs(60),
    run,
};

/// Says `has WHAT` for each thing that is there; `group ID BDF` for each device of a group.
const LOOK: &str = r#"
for node in /dev/kvm /dev/vfio/vfio /dev/iommu /dev/net/tun; do
    [ -c $node ] && exec 9<>$node && echo "has $node" && exec 9>&-
done
[ -d /sys/class/iommu/dmar0 ] && echo "has dmar0"
[ -e /sys/kernel/debug/iommu/intel/dmar_translation_struct ] && echo "has intel debugfs"
for device in /sys/bus/pci/devices/*; do
    id=$(cat $device/vendor):$(cat $device/device)
    group=$(readlink $device/iommu_group)
    echo "group ${group##*/} $id"
done
grep -c . /sys/kernel/debug/iommu/intel/iommu_regset
echo "read back" >/scratch/lab-self/written && cat /scratch/lab-self/written
remora --version >/dev/null && echo "has remora"
"#;

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let look = lab.sh("look", LOOK)?;
    for wanted in [
        "/dev/kvm",
        "/dev/vfio/vfio",
        "/dev/iommu",
        "/dev/net/tun",
        "dmar0",
        "intel debugfs",
    ] {
        look.expect(&format!("has {wanted}"))?;
    }
    for (device, id) in [("nvme", "0x1b36:0x0010"), ("edu", "0x1234:0x11e8")] {
        let groups: Vec<&str> = look
            .stdout
            .lines()
            .filter(|line| line.starts_with("group "))
            .collect();
        let own = groups.iter().find(|line| line.ends_with(id));
        let own = own.ok_or_else(|| anyhow::anyhow!("L1 has no {device}"))?;
        let group = own.split(' ').nth(1).unwrap_or_default();
        let members = groups
            .iter()
            .filter(|line| line.split(' ').nth(1) == Some(group))
            .count();
        if group.is_empty() || members != 1 {
            anyhow::bail!("{device} is not alone in an IOMMU group: {groups:?}");
        }
    }
    look.expect("read back")?;
    Ok(Verdict::Pass)
}
