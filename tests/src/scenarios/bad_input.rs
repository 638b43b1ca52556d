// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Wrong options, files that are not what they should be, and more than the host has: one clear line, the right status,
//! nothing left behind.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::ending::{expect_last_line, expect_one_line};
use crate::host_device::HostDevice;
use crate::images::Guest;
use crate::lab::Lab;
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};
use crate::session::in_l1;

pub const SCENARIO: Scenario = Scenario {
    name: "bad-input",
    about: "wrong options and files end with one clear line and status 2 or 3; a disk that vanishes gives I/O errors",
    limit: Duration::from_secs(300),
    run,
};

/// What could be left in L1.
const LOOK: &str = "ls /sys/class/net; ls -A /tmp /run /dev/shm";

/// Name, options, exit status, and what the line must say. KERNEL and INITRD stand for good files.
const CASES: &[(&str, &str, i32, &str)] = &[
    ("no-command", "", 2, "a command is missing"),
    ("unknown-command", "walk", 2, "'walk'"),
    ("no-kernel", "run", 2, "--kernel <FILE>"),
    (
        "missing-kernel",
        "run --kernel /nowhere/bzImage",
        2,
        "cannot open kernel /nowhere/bzImage: No such file",
    ),
    (
        "directory",
        "run --kernel /tmp",
        2,
        "/tmp: the kernel is not a regular file",
    ),
    (
        "not-a-kernel",
        "run --kernel /host/etc/passwd",
        2,
        "/host/etc/passwd: it is a text file",
    ),
    ("a-program", "run --kernel /lab/busybox", 2, "PVH"),
    (
        "empty",
        "run --kernel files/empty",
        2,
        "files/empty: it is an empty file of 0 bytes",
    ),
    (
        "header-only",
        "run --kernel files/header-only",
        2,
        "cannot boot files/header-only: ",
    ),
    (
        "truncated",
        "run --kernel files/truncated",
        2,
        "cannot boot files/truncated: ",
    ),
    (
        "truncated-elf",
        "run --kernel files/truncated-elf",
        2,
        "cannot boot files/truncated-elf: ",
    ),
    (
        "missing-initrd",
        "run --kernel KERNEL --initrd /nowhere/initrd",
        2,
        "cannot open initrd /nowhere/initrd",
    ),
    (
        "initrd-too-big",
        "run --kernel KERNEL --initrd files/big --memory 128M",
        2,
        "files/big",
    ),
    (
        "no-memory",
        "run --kernel KERNEL --memory 0",
        2,
        "--memory: 0 bytes",
    ),
    (
        "little-memory",
        "run --kernel KERNEL --memory 4K",
        2,
        "too small",
    ),
    (
        "odd-memory",
        "run --kernel KERNEL --memory 1.5G",
        2,
        "--memory: \"1.5G\" is no size",
    ),
    (
        "absurd-memory",
        "run --kernel KERNEL --memory 900T",
        3,
        "--memory: ",
    ),
    (
        "huge-pages",
        "run --kernel KERNEL --memory 1G,hugepages=1G",
        3,
        "huge pages",
    ),
    (
        "no-cpus",
        "run --kernel KERNEL --cpus 0",
        2,
        "--cpus: \"0\"",
    ),
    (
        "many-cpus",
        "run --kernel KERNEL --cpus 10000",
        3,
        "--cpus: 10000 processors are more than the ",
    ),
    (
        "cpus-without-remapping",
        "run --kernel KERNEL --cpus 256 --iommu off",
        2,
        "need interrupt remapping",
    ),
    (
        "unknown-option",
        "run --kernel KERNEL --turbo",
        2,
        "'--turbo'",
    ),
    (
        "bad-part",
        "run --kernel KERNEL --disk /tmp,cache=off",
        2,
        "--disk: \"cache\" is not known; allowed are readonly",
    ),
    (
        "bad-value",
        "run --kernel KERNEL --iommu mode=fast",
        2,
        "--iommu: mode=fast: allowed are ",
    ),
    (
        "bad-stages",
        "run --kernel KERNEL --iommu stages=first,nesting=on",
        2,
        "nesting=on needs stages=both",
    ),
    (
        "bad-units",
        "run --kernel KERNEL --iommu units=3 --root-port id=a",
        2,
        "units=3 needs 2 root ports, but there are 1",
    ),
    (
        "bad-mac",
        "run --kernel KERNEL --net tap=t,mac=1:2",
        2,
        "--net: mac=1:2",
    ),
    (
        "bad-bus",
        "run --kernel KERNEL --disk /tmp/x,bus=p",
        2,
        "no --root-port has this id",
    ),
    (
        "bad-feature",
        "run --kernel KERNEL --cpu host,-warp",
        2,
        "\"warp\"",
    ),
    (
        "bad-timeout",
        "run --kernel KERNEL --timeout soon",
        2,
        "--timeout: \"soon\"",
    ),
    ("bad-log", "run --kernel KERNEL --log a=b=c", 2, "--log: "),
    (
        "missing-disk",
        "run --kernel KERNEL --disk /nowhere/disk",
        2,
        "/nowhere/disk",
    ),
    (
        "disk-directory",
        "run --kernel KERNEL --disk /tmp",
        2,
        "/tmp",
    ),
    (
        "missing-share",
        "run --kernel KERNEL --share /nowhere,tag=t",
        2,
        "/nowhere",
    ),
    ("tap-is-no-tap", "run --kernel KERNEL --net tap=lo", 3, "lo"),
    (
        "vfio-no-address",
        "run --kernel KERNEL --vfio nvme0",
        2,
        "'nvme0' is no PCI address",
    ),
    (
        "vfio-no-port",
        "run --kernel KERNEL --vfio 00:00.0,bus=p9",
        2,
        "no --root-port has this id",
    ),
    (
        "vfio-no-caching-mode",
        "run --kernel KERNEL --vfio 00:00.0 --iommu caching-mode=off",
        2,
        "caching-mode=off cannot be had",
    ),
    (
        "vfio-no-device",
        "run --kernel KERNEL --vfio ff:1f.7",
        3,
        "the host has no PCI device at 0000:ff:1f.7",
    ),
    (
        "vfio-bridge",
        "run --kernel KERNEL --vfio 00:00.0",
        3,
        "it is a bridge",
    ),
    (
        "result-nowhere",
        "run --kernel KERNEL --result /nowhere/result",
        2,
        "cannot create result file /nowhere/result",
    ),
    (
        "serial-nowhere",
        "run --kernel KERNEL --serial file:/nowhere/log",
        2,
        "cannot create serial log /nowhere/log",
    ),
];

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    prepare(lab)?;
    let before = lab.sh("look-before", LOOK)?.stdout;
    let mut wrong = Vec::new();
    for &case in CASES {
        if let Err(error) = complains(lab, case) {
            wrong.push(format!("{}: {error:#}", case.0));
        }
    }
    if let Err(error) = in_use(lab) {
        wrong.push(format!("in use: {error:#}"));
    }
    if let Err(error) = forbidden(lab) {
        wrong.push(format!("forbidden: {error:#}"));
    }
    let after = lab.sh("look-after", LOOK)?.stdout;
    if before != after {
        wrong.push(format!("left behind:\n{before}\nbecame\n{after}"));
    }
    if let [first, ..] = wrong.as_slice() {
        bail!(
            "{} of the cases: {first}\n{}",
            wrong.len(),
            wrong.join("\n")
        );
    }
    disk_vanishes(lab)?;
    Ok(Verdict::Pass)
}

/// Files that are not what they should be, below the scenario's directory.
fn prepare(lab: &Lab<'_>) -> Result<()> {
    let bzimage = fs::read(&lab.kernel().bzimage)?;
    let vmlinux = fs::read(&lab.kernel().vmlinux)?;
    let files = lab.dir().join("files");
    fs::create_dir(&files)?;
    let part = |name: &str, bytes: &[u8]| fs::write(files.join(name), bytes);
    part("empty", &[])?;
    part("header-only", &bzimage[..0x300])?;
    part("truncated", &bzimage[..bzimage.len() / 2])?;
    part("truncated-elf", &vmlinux[..vmlinux.len() / 2])?;
    fs::File::create(files.join("big"))?.set_len(256 << 20)?;
    Ok(())
}

fn complains(
    lab: &mut Lab<'_>,
    (name, options, status, says): (&str, &str, i32, &str),
) -> Result<()> {
    let kernel = in_l1(&lab.kernel().bzimage);
    let words: Vec<&str> = options
        .split_whitespace()
        .map(|word| if word == "KERNEL" { &kernel } else { word })
        .collect();
    let ended = lab.remora(name, &Remora::with(&words))?;
    expect_one_line(&ended)?;
    let reason = if status == 2 { "usage" } else { "host" };
    expect_last_line(&ended, status, reason, says)
}

/// A device that a driver of the host's uses is left to it.
fn in_use(lab: &mut Lab<'_>) -> Result<()> {
    let address = HostDevice::Nvme.give_back(lab)?;
    let options = format!("run --kernel KERNEL --vfio {address}");
    let says = "the host's driver nvme uses it";
    complains(lab, ("vfio-in-use", &options, 3, says))
}

/// Root may do everything, so somebody else must try what is not allowed: an initrd, then KVM.
fn forbidden(lab: &mut Lab<'_>) -> Result<()> {
    let kernel = in_l1(&lab.kernel().bzimage);
    let copy = format!(
        "cp {kernel} /tmp/kernel && chmod 644 /tmp/kernel && cp files/empty /tmp/secret && chmod 0 /tmp/secret"
    );
    lab.sh("secret", &copy)?.expect_status(0)?;
    let boot = Remora::with(&["run", "--kernel", "/tmp/kernel"]).under(&[
        "/usr/bin/setpriv",
        "--reuid",
        "65534",
        "--clear-groups",
    ]);
    let initrd = lab.remora(
        "unreadable-initrd",
        &boot.clone().args(&["--initrd", "/tmp/secret"]),
    )?;
    let kvm = lab.remora("no-kvm", &boot)?;
    lab.sh("no-secret", "rm -f /tmp/secret /tmp/kernel")?
        .expect_status(0)?;
    expect_one_line(&initrd)?;
    let says = "cannot open initrd /tmp/secret: Permission denied";
    expect_last_line(&initrd, 2, "usage", says)?;
    expect_one_line(&kvm)?;
    let says = "open /dev/kvm: Permission denied";
    expect_last_line(&kvm, 3, "host", says)
}

/// Reads the first disk's end until that fails, at most for a minute, and then the second disk.
const READER: &str = r#"
end() { dd if=/dev/$1 of=/dev/null bs=4096 count=1 skip=4000 iflag=direct 2>/dev/null; }
end vda && echo "the disk is there"
for second in $(seq 60); do
    if ! end vda; then
        echo "the disk has gone"
        break
    fi
    sleep 1
done
end vdb && echo "the other disk is still there"
"#;

/// The image is cut short and removed while the guest reads it: its reads fail, and that is all.
fn disk_vanishes(lab: &mut Lab<'_>) -> Result<()> {
    let initrd = lab.initrd("reader", &Guest::script(READER))?;
    lab.sh("disk", "truncate -s 16M /tmp/disk.img /tmp/other.img")?
        .expect_status(0)?;
    let remora = Remora::boot(&lab.kernel().bzimage).initrd(&initrd).args(&[
        "--disk",
        "/tmp/disk.img",
        "--disk",
        "/tmp/other.img",
    ]);
    let job = lab.start_remora("disk-vanishes", &remora)?;
    lab.wait_for(&job, "the disk is there")?;
    lab.sh("cut", "truncate -s 4096 /tmp/disk.img && rm /tmp/disk.img")?
        .expect_status(0)?;
    let ended = lab.wait(&job)?;
    ended
        .expect("the disk has gone")?
        .expect("I/O error, dev vda, sector 32000")?
        .expect("the other disk is still there")?
        .expect("guest: script ended with status 0")?;
    expect_last_line(&ended, 0, "poweroff", "").context("a disk that vanishes")
}
