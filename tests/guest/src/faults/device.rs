// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! dmatest as a program finds it that no driver has: by sysfs, able to make every kind of request.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use vm_memory::{FileOffset, MmapRegion};

use crate::dmatest::driver::{Answer, Command, DEVICE, Dmatest, VENDOR};
use crate::pci::Function;

const BAR_BYTES: usize = 128 << 10;

/// Extended capabilities.
const ATS: u16 = 0x0f;
const PRI: u16 = 0x13;
const PASID: u16 = 0x1b;

/// A dmatest.
pub struct Device {
    pub function: Function,
    /// Its source id.
    pub source: u16,
    dmatest: Dmatest,
}

impl Device {
    /// All of the machine, in the order of their addresses.
    pub fn all() -> Result<Vec<Self>> {
        let functions = Function::all(VENDOR, DEVICE)?.into_iter();
        functions.map(Self::open).collect()
    }

    fn open(function: Function) -> Result<Self> {
        let open = |file| {
            let mut options = File::options();
            let path = function.path(file);
            let opened = options.read(true).write(true).open(&path);
            opened.with_context(|| format!("opening {}", path.display()))
        };
        fs::write(function.path("enable"), "1")?;
        enable_requests(&open("config")?)?;
        let bar = FileOffset::new(open("resource0")?, 0);
        Ok(Self {
            source: function.source()?,
            dmatest: Dmatest::new(MmapRegion::from_file(bar, BAR_BYTES)?)?,
            function,
        })
    }

    /// Puts it into a domain that translates nothing.
    pub fn translate_nothing(&self) -> Result<()> {
        let kind = self.function.path("iommu_group/type");
        if fs::read_to_string(&kind)?.trim() != "identity" {
            fs::write(&kind, "identity").context("asking for an identity domain")?;
        }
        Ok(())
    }

    /// Carries a command out.
    pub fn run(&mut self, command: &Command) -> Result<Answer> {
        self.dmatest.run(command)
    }
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
