// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! dmatest as a program finds it that no driver has: by sysfs. docs/dmatest.md describes the device.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use vm_memory::{FileOffset, MmapRegion, VolatileMemory};

const DEVICES: &str = "/sys/bus/pci/devices";
const DEVICE: &str = "0xd7a7";
const BAR_BYTES: usize = 128 << 10;

const TAIL: usize = 0x24;
const RING: usize = 0x1000;
const SLOTS: usize = 64;
const SLOT_BYTES: usize = 64;

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Extended capabilities.
const ATS: u16 = 0x0f;
const PRI: u16 = 0x13;
const PASID: u16 = 0x1b;

/// A command, as its slot holds it.
#[derive(Debug, Clone, Copy)]
pub struct Command {
    control: u32,
    pasid: u32,
    address: u64,
    operand: u64,
    length: u32,
}

/// What became of a command.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    pub status: u32,
    pub result: u64,
}

impl Command {
    /// Writes `length` bytes, the 8 of `pattern` over and over.
    pub fn fill(address: u64, length: u32, pattern: u64) -> Self {
        Self::new(4, address, pattern, length)
    }

    /// Reads 64 bytes.
    pub fn read(address: u64) -> Self {
        Self::new(5, address, 0, 64)
    }

    /// Writes 64 bytes.
    pub fn write(address: u64) -> Self {
        Self::fill(address, 64, 0)
    }

    /// Adds to the 8 bytes at `address`; the result is the value before.
    pub fn add(address: u64, addend: u64) -> Self {
        Self::new(6, address, addend, 8)
    }

    fn new(operation: u32, address: u64, operand: u64, length: u32) -> Self {
        Self {
            control: operation,
            pasid: 0,
            address,
            operand,
            length,
        }
    }

    /// With requests of this PASID.
    pub fn pasid(mut self, pasid: u32) -> Self {
        self.control |= 1 << 8;
        self.pasid = pasid;
        self
    }

    /// With supervisor privilege.
    pub fn privileged(mut self) -> Self {
        self.control |= 1 << 9;
        self
    }

    /// As instruction fetches.
    pub fn execute(mut self) -> Self {
        self.control |= 1 << 10;
        self
    }

    /// The device asks for translations.
    pub fn translated(mut self) -> Self {
        self.control |= 1 << 11;
        self
    }

    /// And for pages.
    pub fn asking_for_pages(mut self) -> Self {
        self.control |= 1 << 11 | 1 << 12;
        self
    }
}

/// A dmatest.
pub struct Device {
    /// Segment, bus, device and function: `0000:00:03.0`.
    pub id: String,
    /// Its source id.
    pub source: u16,
    bar: MmapRegion,
}

impl Device {
    /// All of the machine, in the order of their addresses, able to make every kind of request.
    pub fn all() -> Result<Vec<Self>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(DEVICES).context("listing PCI devices")? {
            let entry = entry?;
            if fs::read_to_string(entry.path().join("device"))?.trim() == DEVICE {
                ids.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        ids.sort();
        ids.iter()
            .map(|id| Self::open(id).with_context(|| format!("opening {id}")))
            .collect()
    }

    fn open(id: &str) -> Result<Self> {
        fs::write(path(id, "enable"), "1")?;
        let open = |file| {
            let mut options = File::options();
            options.read(true).write(true).open(path(id, file))
        };
        enable_requests(&open("config")?)?;
        let bar = FileOffset::new(open("resource0")?, 0);
        Ok(Self {
            id: id.to_owned(),
            source: source(id)?,
            bar: MmapRegion::from_file(bar, BAR_BYTES)?,
        })
    }

    /// Puts it into a domain that translates nothing.
    pub fn translate_nothing(&self) -> Result<()> {
        let kind = path(&self.id, "iommu_group/type");
        if fs::read_to_string(&kind)?.trim() != "identity" {
            fs::write(&kind, "identity").context("asking for an identity domain")?;
        }
        Ok(())
    }

    /// Carries a command out.
    pub fn run(&mut self, command: &Command) -> Result<Answer> {
        let slot = usize::try_from(self.register(TAIL)?.load(Ordering::Acquire))?;
        let at = RING + slot * SLOT_BYTES;
        let set = |offset, value| -> Result<()> {
            self.register(offset)?.store(value, Ordering::Release);
            Ok(())
        };
        set(at, command.control)?;
        set(at + 4, command.pasid)?;
        self.word(at + 8)?.store(command.address, Ordering::Release);
        self.word(at + 16)?
            .store(command.operand, Ordering::Release);
        set(at + 32, command.length)?;
        set(TAIL, u32::try_from((slot + 1) % SLOTS)?)?;
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let status = self.register(at + 48)?.load(Ordering::Acquire);
            if status != 0 {
                return Ok(Answer {
                    status,
                    result: self.word(at + 56)?.load(Ordering::Acquire),
                });
            }
            sleep(Duration::from_micros(100));
        }
        bail!("{command:x?} does not end")
    }

    fn register(&self, offset: usize) -> Result<&AtomicU32> {
        self.bar.get_atomic_ref(offset).context("beyond BAR 0")
    }

    fn word(&self, offset: usize) -> Result<&AtomicU64> {
        self.bar.get_atomic_ref(offset).context("beyond BAR 0")
    }
}

fn path(id: &str, file: &str) -> PathBuf {
    Path::new(DEVICES).join(id).join(file)
}

/// Bus, device and function of `0000:00:03.0` as requests carry them.
fn source(id: &str) -> Result<u16> {
    let number = |digits: &str| u16::from_str_radix(digits, 16);
    let parts: Vec<&str> = id.split([':', '.']).collect();
    let &[_, bus, device, function] = parts.as_slice() else {
        bail!("'{id}' is no PCI address")
    };
    Ok(number(bus)? << 8 | number(device)? << 3 | number(function)?)
}

/// Makes the function a bus master with PASIDs, ATS and page requests, as far as the kernel has not done so.
fn enable_requests(config: &File) -> Result<()> {
    let set = |offset: u64, value: u16| config.write_all_at(&value.to_le_bytes(), offset);
    let get = |offset: u64| -> Result<u16> {
        let mut bytes = [0; 2];
        config.read_exact_at(&mut bytes, offset)?;
        Ok(u16::from_le_bytes(bytes))
    };
    set(4, get(4)? | 0b110)?;
    let mut at = 0x100;
    while at != 0 {
        match get(at)? {
            // Enabled, execute and privilege permitted.
            PASID if get(at + 6)? & 1 == 0 => set(at + 6, 0b111)?,
            ATS if get(at + 6)? & 1 << 15 == 0 => set(at + 6, 1 << 15)?,
            PRI if get(at + 4)? & 1 == 0 => {
                set(at + 12, 32)?;
                set(at + 4, 1)?;
            }
            _ => {}
        }
        at = u64::from(get(at + 2)? >> 4);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_takes_the_three_fields_apart() {
        assert_eq!(source("0000:01:02.3").unwrap(), 0x0113);
        assert_eq!(source("0000:ff:1f.7").unwrap(), 0xffff);
        assert!(source("0000:01").is_err());
    }
}
