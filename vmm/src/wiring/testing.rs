// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A machine without KVM: a kernel that only writes down what it is told, and the parts that stand before it.

use super::iommu::Units;
use crate::cli::{Cli, Command};
use crate::config::Config;
use crate::interrupts::{LocalApics, Processors, Route};
use clap::Parser;
use iommu::memory::Ram;
use iommu::msi::MsiMessage;
use std::io;
use std::sync::{Arc, Mutex};
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::EventFd;

/// Physical address bits of the machine.
pub const PHYS_BITS: u8 = 40;

/// The configuration of `remora run --kernel k OPTIONS`.
pub fn config(options: &[&str]) -> Config {
    let all = ["remora", "run", "--kernel", "k"].iter().chain(options);
    let Command::Run(args) = Cli::try_parse_from(all).unwrap().command else {
        panic!("not a run")
    };
    args.config().unwrap()
}

/// What the local APICs were told.
#[derive(Debug, Default)]
pub struct Kernel {
    signals: Mutex<Vec<MsiMessage>>,
    routes: Mutex<Vec<Route>>,
}

impl Kernel {
    /// The messages since the last call.
    pub fn take_signals(&self) -> Vec<MsiMessage> {
        std::mem::take(&mut self.signals.lock().unwrap())
    }

    /// The routes as they are.
    pub fn routes(&self) -> Vec<Route> {
        self.routes.lock().unwrap().clone()
    }
}

impl LocalApics for Kernel {
    fn signal(&self, message: MsiMessage) -> io::Result<()> {
        self.signals.lock().unwrap().push(message);
        Ok(())
    }

    fn set_routes(&self, routes: &[Route]) -> io::Result<()> {
        *self.routes.lock().unwrap() = routes.to_vec();
        Ok(())
    }

    fn attach(&self, _: &EventFd, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn detach(&self, _: &EventFd, _: u32) -> io::Result<()> {
        Ok(())
    }
}

/// The kernel, 16 MiB of RAM, and the way of devices to both.
pub fn parts(config: &Config) -> (Arc<Kernel>, Arc<Ram>, Units) {
    let kernel = Arc::new(Kernel::default());
    let ram = Arc::new(Ram::from_ranges(&[(GuestAddress(0), 16 << 20)]).unwrap());
    let processors = Processors::new(Arc::clone(&kernel) as _);
    let units = Units::new(config, &ram, PHYS_BITS, &processors).unwrap();
    (kernel, ram, units)
}
