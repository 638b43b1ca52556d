// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A machine: the board with its processors, from power-on through resets in place to the end.
//!
//! Used by one thread, the event loop's. While anything here changes, every vCPU is parked.

use crate::api::Status;
use crate::api::worker::{Gate, Parts};
use crate::board::{Board, Counters, PowerButton};
use crate::boot::Images;
use crate::config::Config;
use crate::console::Console;
use crate::control::Control;
use crate::error::Error;
use crate::events::Events;
use crate::kvm::exit::Outside;
use crate::kvm::vcpu::{Model, Vcpu};
use crate::kvm::vm::Vm;
use crate::vcpus::Vcpus;
use crate::{layout, memory};
use devices::bus::Bus;
use event_manager::MutEventSubscriber;
use std::sync::Arc;
use vm_memory::Bytes;

/// A machine.
#[derive(Debug)]
pub struct Machine {
    // Before the board, so that the processors go first.
    vcpus: Vcpus,
    board: Board,
    images: Images,
}

impl Machine {
    /// Builds the machine that `config` describes, with the devices that `wire` adds; nothing runs yet.
    ///
    /// # Errors
    /// The configuration cannot be had on this host.
    pub fn new(
        config: Arc<Config>,
        control: Arc<Control>,
        console: Arc<Console>,
        events: Arc<Events>,
        wire: impl FnOnce(&mut Board) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let images = Images::open(&config)?;
        let vm = Vm::new()?;
        check_cpus(&vm, config.cpus)?;
        let model = Model::new(&vm, &config.removed_features, config.cpus)?;
        check_width(&config, model.phys_bits())?;
        let ram = Arc::new(memory::create(config.memory)?);
        vm.map_ram(&ram)?;
        let mut board = Board {
            config,
            ram,
            vm: Arc::new(vm),
            mmio: Arc::new(Bus::default()),
            ports: Arc::new(Bus::default()),
            control,
            events,
            console,
            phys_bits: model.phys_bits(),
            resets: Vec::new(),
            eoi: None,
            tables: Vec::new(),
            rsdp: None,
            counters: None,
            power_button: None,
            slots: None,
            inspected: Vec::new(),
            subscribers: Vec::new(),
        };
        wire(&mut board)?;
        Self::with_board(board, &model, images)
    }

    /// Adds the processors to a board that has its devices.
    fn with_board(board: Board, model: &Model, images: Images) -> Result<Self, Error> {
        let mut msrs = None;
        let vcpus: Vec<Vcpu> = (0..board.config.cpus)
            .map(|index| Vcpu::new(&board.vm, model, index, &mut msrs))
            .collect::<Result<_, _>>()?;
        let outside = Outside {
            mmio: Arc::clone(&board.mmio),
            ports: Arc::clone(&board.ports),
            ram: Arc::clone(&board.ram),
            eoi: board.eoi.clone(),
            control: Arc::clone(&board.control),
        };
        Ok(Self {
            vcpus: Vcpus::spawn(vcpus, &outside)?,
            board,
            images,
        })
    }

    /// What the event loop has to serve for the devices.
    pub fn take_subscribers(&mut self) -> Vec<Box<dyn MutEventSubscriber + Send>> {
        std::mem::take(&mut self.board.subscribers)
    }

    /// The counters of the remapping unit.
    #[must_use]
    pub fn counters(&self) -> Option<Arc<dyn Counters>> {
        self.board.counters.clone()
    }

    /// Loads the guest and lets it run.
    ///
    /// # Errors
    /// The guest cannot be loaded.
    pub fn start(&mut self) -> Result<(), Error> {
        self.load()?;
        self.vcpus.run()
    }

    /// Brings every processor out of the guest and out of the devices, and keeps it out.
    ///
    /// # Errors
    /// A processor does not come back.
    pub fn park(&self) -> Result<(), Error> {
        self.vcpus.park()
    }

    /// Stops processors and emulated devices where they are. Nothing happens to a machine that is paused.
    ///
    /// # Errors
    /// A processor does not come back.
    pub fn pause(&self) -> Result<(), Error> {
        self.park()?;
        for part in &self.board.resets {
            part.pause();
        }
        Ok(())
    }

    /// Lets a machine go on that was paused.
    ///
    /// # Errors
    /// A processor does not answer.
    pub fn resume(&self) -> Result<(), Error> {
        self.resume_devices();
        self.vcpus.resume()
    }

    fn resume_devices(&self) {
        for part in self.board.resets.iter().rev() {
            part.resume();
        }
    }

    /// What the control socket shows and changes.
    #[must_use]
    pub fn parts(&self, status: &Arc<Status>, gate: &Gate) -> Parts {
        Parts {
            config: Arc::clone(&self.board.config),
            events: Arc::clone(&self.board.events),
            status: Arc::clone(status),
            inspected: self.board.inspected.clone(),
            slots: self.board.slots.clone(),
            gate: gate.clone(),
        }
    }

    /// The power button, if the machine has one.
    #[must_use]
    pub fn power_button(&self) -> Option<&Arc<dyn PowerButton>> {
        self.board.power_button.as_ref()
    }

    /// Puts the machine into the state after power-on with the guest loaded anew; nothing runs yet. It may be paused, and is not
    /// any more.
    ///
    /// # Errors
    /// A device cannot be reset, or the guest cannot be loaded again.
    pub fn reset(&mut self) -> Result<(), Error> {
        self.park()?;
        // What was going on must come to an end, for which it has to go on.
        self.resume_devices();
        for part in &self.board.resets {
            part.reset()?;
        }
        self.load()?;
        self.board.control.resume();
        Ok(())
    }

    /// Lets a machine run that was reset.
    ///
    /// # Errors
    /// A processor does not answer.
    pub fn run(&self) -> Result<(), Error> {
        self.vcpus.run()
    }

    /// Ends the processors, then the devices.
    ///
    /// # Errors
    /// A processor does not come back; the devices are stopped all the same.
    pub fn stop(&mut self) -> Result<(), Error> {
        let joined = self.vcpus.join();
        // What is under way must come to an end.
        self.resume_devices();
        for part in &self.board.resets {
            part.stop();
        }
        joined
    }

    fn load(&mut self) -> Result<(), Error> {
        for (at, bytes) in &self.board.tables {
            self.board
                .ram
                .write_slice(bytes, *at)
                .map_err(|_| Error::Option {
                    option: "memory",
                    problem: "too small: the firmware tables below 1 MiB do not fit".into(),
                })?;
        }
        let entry = self.images.load(&self.board.ram, self.board.rsdp)?;
        self.vcpus.reset(entry)
    }
}

fn check_cpus(vm: &Vm, cpus: u32) -> Result<(), Error> {
    let limit = vm.max_vcpus();
    if usize::try_from(cpus).is_ok_and(|cpus| cpus <= limit) {
        return Ok(());
    }
    Err(Error::HostLacks(format!(
        "--cpus: {cpus} processors are more than the {limit} that this host's KVM allows"
    )))
}

fn check_width(config: &Config, phys_bits: u8) -> Result<(), Error> {
    let end = layout::ram_end(config.memory.size);
    match 1u64.checked_shl(u32::from(phys_bits)) {
        Some(limit) if end > limit => Err(Error::HostLacks(format!(
            "--memory: {} MiB end beyond the {phys_bits} address bits of this host's processors",
            config.memory.size >> 20
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
