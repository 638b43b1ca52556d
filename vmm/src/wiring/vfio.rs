// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Devices of the host on the guest's bus, and the mirror that keeps what they reach equal to what the guest says.
//!
//! First the host's devices are taken over ([`take_over`]), because what the host can do narrows what the units offer. Then
//! they are put on the bus (`Taken::add`), and when buses are numbered the mirror follows the units for them
//! ([`Passed::follow`]). In a machine without units a device reaches all guest RAM one to one, for as long as it is there.
//!
//! Lock rule: the roster's lock comes before that of a passed-through function, and both before the mirror's, which is told
//! of a function's memory under the function's lock.

mod arrival;
mod function;
mod guard;
mod host;
mod inspect;
mod pasids;
mod question;
mod roster;
mod taken;
mod targets;
mod wishes;

pub use roster::Roster;
pub use taken::take_over;
pub use wishes::GiveBack;

use self::guard::Guard;
use self::host::Host;
use self::inspect::MirrorNumbers;
use self::pasids::Pasids;
use self::taken::Device;
use self::targets::Targets;
use self::wishes::Wishes;
use super::iommu::Units;
use super::pci::Windows;
use crate::board::{Board, Reset};
use crate::config::Config;
use crate::error::Error;
use crate::events::Events;
use crate::interrupts::{RouteTable, VectorRoutes};
use crate::kvm::slots::DeviceMemory;
use crate::kvm::vfio::VfioFiles;
use crate::kvm::vm::Vm;
use ::iommu::capabilities::{Capabilities, LegacyOptions};
use ::iommu::follow::{
    Attachment, DeviceHandle, FollowEvent, FollowedDevice, FollowedStatus, Follower, PasidBudget,
};
use ::iommu::memory::{PhysMem, Ram};
use ::iommu::unit::Unit;
use devices::pci::PciFunction;
use std::sync::{Arc, OnceLock};
use vfio::device::function::{Machine, Passthrough};
use vfio::device::reset::Functions;
use vfio::mirror::{Budget, Mirror, Options, UnitId};
use vfio::ram::RamMap;
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

/// The follower of a machine without units.
const NO_UNIT: UnitId = UnitId(0);

/// The machine's passed-through devices.
#[derive(Debug)]
pub struct Passed {
    config: Arc<Config>,
    units: Arc<Units>,
    ram: Arc<Ram>,
    vm: Arc<Vm>,
    slots: Arc<DeviceMemory>,
    vectors: Arc<VectorRoutes>,
    functions: Functions,
    wishes: Wishes,
    roster: Arc<Roster>,
    events: Arc<Events>,
    pasids: Pasids,
    side: OnceLock<HostSide>,
}

/// The host's side, from the first device on.
#[derive(Clone, Debug)]
struct HostSide {
    host: Host,
    kvm: Arc<VfioFiles>,
    mirror: Mirror,
    targets: Arc<Targets>,
}

impl Passed {
    /// No device yet.
    ///
    /// # Errors
    /// The host has no thread or file descriptor left.
    pub fn new(board: &Board, units: &Arc<Units>, table: Arc<RouteTable>) -> Result<Self, Error> {
        let vectors = VectorRoutes::new(table);
        let vectors = vectors.map_err(|e| Error::host("serve vectors of devices", e))?;
        units.refresh_vectors_on_change(&vectors);
        let windows = Windows::new(&board.config, board.phys_bits);
        let slots = DeviceMemory::new(Arc::clone(&board.vm), [windows.memory, windows.memory64]);
        Ok(Self {
            config: Arc::clone(&board.config),
            units: Arc::clone(units),
            ram: Arc::clone(&board.ram),
            vm: Arc::clone(&board.vm),
            slots,
            vectors,
            functions: Functions::default(),
            wishes: Wishes::new(&board.events),
            events: Arc::clone(&board.events),
            roster: Arc::default(),
            pasids: Pasids::for_ram(board.ram.iter().map(|region| region.len()).sum()),
            side: OnceLock::new(),
        })
    }

    /// Makes a mirror for `host`, which follows every unit from now on.
    fn meet(&self, host: Host, kvm: VfioFiles, ram: RamMap) -> Result<HostSide, Error> {
        let budget = Options {
            budget: Budget::for_ram(ram.len()),
            compaction: true,
        };
        let memory = Arc::clone(&self.ram) as Arc<dyn PhysMem>;
        let mirror = Mirror::new(host.backend(), memory, ram, budget)
            .with_worker()
            .map_err(|e| Error::host("start the mirror's thread", e))?;
        for (number, unit) in (0..).zip(self.units.units()) {
            let id = UnitId(number);
            mirror.listen(id, unit);
            unit.set_follower(self.guard(&mirror, id, *unit.capabilities()))
                .map_err(|error| Error::Bug(error.to_string()))?;
        }
        let kvm = Arc::new(kvm);
        let targets = Targets::new(Arc::clone(&self.slots) as _, mirror.clone());
        let side = HostSide {
            host,
            kvm,
            mirror,
            targets: Arc::new(targets),
        };
        // Nobody else makes one: at the start there is one thread, and later arrivals come one after the other.
        let _ = self.side.set(side.clone());
        Ok(side)
    }

    fn guard(&self, mirror: &Mirror, unit: UnitId, capabilities: Capabilities) -> Arc<Guard> {
        let inner = mirror.follower(unit, capabilities);
        let (mirror, roster) = (mirror.clone(), Arc::clone(&self.roster));
        Guard::new(inner, mirror, roster, Arc::clone(&self.events))
    }

    /// The function of an open device, behind the unit that is for its port. Nobody follows it yet.
    fn function(&self, side: &HostSide, device: &Device) -> Result<Arc<Passthrough>, Error> {
        let translation = self.units.behind(device.config.bus.as_ref());
        let machine = Machine {
            routes: self
                .vectors
                .behind(translation.remap(), translation.messages()),
            slots: Arc::clone(&side.targets) as _,
        };
        let unit = translation.unit().cloned();
        let services = Pasids::services(&side.host, device, unit.as_ref())?;
        let function = function::open(device, &side.host, &self.functions, machine, services)?;
        let bus = device.config.bus.as_ref();
        let ports = self.config.root_ports.iter();
        let in_slot = ports
            .filter(|port| port.hotplug)
            .any(|port| Some(&port.id) == bus);
        self.wishes.watch(device.name(), in_slot, &function);
        let way = (unit.as_ref(), function.requester());
        let pasids = self.pasids.add(&side.host, device.handle, &services, way)?;
        self.roster.add(
            (device.handle, device.name()),
            &device.host,
            Arc::clone(&function),
            unit,
            pasids,
        );
        Ok(function)
    }

    /// Lets the board tell what the mirror does.
    pub fn show(self: &Arc<Self>, board: &mut Board) {
        let numbers = MirrorNumbers::new(Arc::clone(self), board.counters.take());
        let numbers = Arc::new(numbers);
        board.counters = Some(Arc::clone(&numbers) as _);
        board.inspected.push(("passthrough".into(), numbers));
    }

    /// Has devices that the host wants back taken out of the guest by `give_back`, which is told their names.
    pub fn give_back_by(&self, give_back: GiveBack) {
        self.wishes.set(give_back);
    }

    /// The mirror; none before the first device.
    #[must_use]
    pub fn mirror(&self) -> Option<&Mirror> {
        self.side.get().map(|side| &side.mirror)
    }

    /// Lets each device reach what its unit says from now on: all guest RAM, as long as the guest has not switched
    /// translation on. Source ids must be given out.
    ///
    /// # Errors
    /// The host does not map guest RAM for a device.
    pub fn follow(&self) -> Result<(), Error> {
        let Some(side) = self.side.get() else {
            return Ok(());
        };
        for (handle, device) in self.roster.devices() {
            let done = match &device.unit {
                Some(unit) => follow(unit, handle, &device.function, device.pasids)?,
                None => self.bypass(&side.mirror, handle)?,
            };
            if !done {
                return Err(Error::HostLacks(format!(
                    "--vfio {}: the host refused to map guest RAM for it; see the messages above",
                    device.address
                )));
            }
        }
        Ok(())
    }

    /// All guest RAM one to one, in a machine without units.
    fn bypass(&self, mirror: &Mirror, device: DeviceHandle) -> Result<bool, Error> {
        let capabilities = Capabilities::legacy(&LegacyOptions::default());
        let capabilities = capabilities.map_err(|error| Error::Bug(error.to_string()))?;
        let to = Attachment::Identity;
        let answer = self
            .guard(mirror, NO_UNIT, capabilities)
            .apply(&[FollowEvent::Attach { device, to }]);
        Ok(answer.results.iter().all(Result::is_ok))
    }

    /// Gives a device back, which sends nothing any more.
    fn give_back(&self, side: &HostSide, handle: DeviceHandle) {
        let Some(device) = self.roster.remove(handle) else {
            return;
        };
        if let Some(unit) = &device.unit {
            unit.unfollow(handle);
        }
        side.mirror.forget(handle);
        // Its memory is no target any more, unless the host refused.
        self.roster.hold(&side.mirror.still_reachable());
        self.pasids.remove(handle);
        if let Err(error) = side.host.close(handle, &*side.kvm) {
            tracing::warn!("{} is not given back properly: {error}", device.address);
        }
    }
}

/// Has `unit` follow a device; whether the device reaches what it shall.
fn follow(
    unit: &Unit,
    handle: DeviceHandle,
    function: &Passthrough,
    pasids: Option<PasidBudget>,
) -> Result<bool, Error> {
    unit.follow(FollowedDevice {
        handle,
        requester: Arc::clone(function.requester()),
        pasids,
    })
    .map_err(|error| Error::Bug(error.to_string()))?;
    let served = |status: &FollowedStatus| {
        let told = status.without_pasid;
        !status.unsynced && told.is_some_and(|told| !told.refused)
    };
    let followed = unit.followed();
    let status = followed.iter().find(|status| status.device == handle);
    Ok(status.is_some_and(served))
}

impl Reset for Passed {
    /// The devices were reset with all others, and the units, whose reset the mirror follows, come next.
    fn reset(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Gives the devices back, none of which sends any more.
    fn stop(&self) {
        if let Some(side) = self.side.get() {
            for (handle, _) in self.roster.devices() {
                self.give_back(side, handle);
            }
        }
    }
}
