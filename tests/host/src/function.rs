// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Passed-through functions on real VFIO files, driven as a guest's kernel would.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use devices::irq::{EndOfInterrupt, IrqLine};
use devices::pci::PciFunction;
use iommu::address::Gpa;
use iommu::follow::DeviceHandle;
use iommu::ids::Requester;
use iommu::msi::MsiMessage;
use rustix::event::{EventfdFlags, eventfd};
use vfio::device::config::Place;
use vfio::device::direct::{Direct, MemorySlots};
use vfio::device::function::{Machine, Passthrough};
use vfio::device::interrupts::{InterruptRoutes, VectorRoute};
use vfio::device::port::DeviceFile;
use vfio::iommufd::{Iommufd, Options};
use vfio::pci_address::PciAddress;
use vfio::sysfs::HostDevice;
use vfio::uapi;

use crate::check::same;
use crate::ram::Memory;

/// `VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER`: as if the device had signalled.
const LOOP_BACK: u32 = 0x21;
/// `VFIO_PCI_MSIX_IRQ_INDEX`.
const MSIX: u32 = 2;
/// Where the BARs go.
const BAR: u32 = 0xe000_0000;

/// Runs `function NVME EDU`.
pub fn run(nvme: PciAddress, edu: PciAddress) -> Result<()> {
    let memory = Memory::new()?;
    let mut backend = Iommufd::new(&memory.map()?, Options::default())?;
    let mut open = |handle, address| -> Result<Arc<File>> {
        let device = HostDevice::read(address)?;
        Ok(backend.open(DeviceHandle(handle), &device, None)?)
    };
    let (nvme, edu) = (open(1, nvme)?, open(2, edu)?);
    nvme_messages(nvme)?;
    edu_pin_and_message(edu)?;
    backend.close(DeviceHandle(1), None)?;
    backend.close(DeviceHandle(2), None)?;
    println!("FUNCTION ok");
    Ok(())
}

/// Configuration space, BAR 0 and MSI-X of the NVMe controller.
fn nvme_messages(file: Arc<File>) -> Result<()> {
    let bench = Bench::new(file.clone())?;
    let function = &bench.function;
    same("nvme id", &bench.config(0x00), &0x0010_1b36)?;
    same("nvme class", &(bench.config(0x08) >> 8), &0x01_0802)?;
    let Some(express) = bench.capability(0x10) else {
        bail!("no PCI Express capability");
    };
    same("an endpoint", &(bench.config(express) >> 20 & 0xf), &0)?;
    same(
        "its link has a lane",
        &(bench.config(express + 0x12) >> 4 & 0x3f),
        &1,
    )?;
    let Some(msix) = bench.capability(0x11) else {
        bail!("no MSI-X");
    };
    bench.start()?;
    let table = u64::from(bench.config(msix + 4));
    println!("table {table:#x}, direct {:x?}", bench.seams.slots());
    let holds_table = |(gpa, len): &(u64, u64)| {
        let table = u64::from(BAR) + table;
        (*gpa..gpa + len).contains(&table)
    };
    same(
        "the table is not the guest's to touch",
        &bench.seams.slots().iter().any(holds_table),
        &false,
    )?;
    // NVMe's version register; QEMU 7.2 says 1.4.
    same("version register", &(bench.bar(0x08) >> 16), &1)?;
    bench.set_config(msix, 0x8000_0000)?;
    let entry = table + 16;
    function.bar_write(0, entry, &0xfee0_1000u64.to_le_bytes());
    function.bar_write(0, entry + 8, &0x42u64.to_le_bytes());
    let message = Some(MsiMessage {
        address: 0xfee0_1000,
        data: 0x42,
    });
    same("routes", &bench.seams.messages(), &vec![message])?;
    let vector = uapi::device::Irqs {
        index: MSIX,
        start: 1,
        count: 1,
    };
    uapi::device::set_irqs(&file, LOOP_BACK, vector)?;
    same("the vector was signalled", &bench.seams.signals(0)?, &1)?;
    bench.set_config(msix, 0xc000_0000)?;
    same("masked", &bench.seams.messages(), &vec![None])?;
    function.reset();
    same("routes after the reset", &bench.seams.messages(), &vec![])?;
    same("slots after the reset", &bench.seams.slots(), &vec![])?;
    same(
        "command after the reset",
        &(bench.config(0x04) & 0xffff),
        &0,
    )
}

/// INTx with the pin still asserted at the end of an interrupt, then MSI, of edu.
fn edu_pin_and_message(file: Arc<File>) -> Result<()> {
    const RAISE: u64 = 0x60;
    const ACKNOWLEDGE: u64 = 0x64;
    let bench = Bench::new(file)?;
    let function = &bench.function;
    let line = Arc::new(Line::default());
    function.connect_intx(16, line.clone());
    bench.start()?;
    same("edu", &bench.bar(0x00), &0x0100_00ed)?;
    function.bar_write(0, RAISE, &1u32.to_le_bytes());
    line.wait_until(true)?;
    line.end();
    line.wait_until(true)?;
    println!("an asserted pin signals again: ok");
    function.bar_write(0, ACKNOWLEDGE, &1u32.to_le_bytes());
    line.end();
    // A signal that was under way at the acknowledgement may have raised the line once more.
    thread::sleep(Duration::from_millis(200));
    line.end();
    same(
        "the line is low",
        &line.level.load(Ordering::Acquire),
        &false,
    )?;
    let Some(msi) = bench.capability(0x05) else {
        bail!("edu has no MSI");
    };
    bench.set_config(msi + 4, 0xfee0_0000)?;
    bench.set_config(msi + 0x0c, 0x31)?;
    bench.set_config(msi, 0x0001_0000)?;
    function.bar_write(0, RAISE, &2u32.to_le_bytes());
    let deadline = Instant::now() + Duration::from_secs(20);
    while bench.seams.signals(0)? == 0 {
        if Instant::now() > deadline {
            bail!("MSI was not signalled");
        }
        thread::yield_now();
    }
    println!("MSI was signalled: ok");
    function.bar_write(0, ACKNOWLEDGE, &2u32.to_le_bytes());
    bench.set_config(msi, 0)?;
    same("routes without MSI", &bench.seams.messages(), &vec![])
}

struct Bench {
    function: Passthrough,
    seams: Arc<Seams>,
}

impl Bench {
    fn new(file: Arc<File>) -> Result<Self> {
        let seams = Arc::new(Seams::default());
        let machine = Machine {
            routes: seams.clone(),
            slots: seams.clone(),
        };
        let device = DeviceFile::new(file, true)?;
        Ok(Self {
            function: Passthrough::of(device, Place::BehindPort, machine)?,
            seams,
        })
    }

    /// Places BAR 0, and switches memory and bus mastering on.
    fn start(&self) -> Result<()> {
        self.set_config(0x10, BAR)?;
        self.set_config(0x04, 0x06)?;
        match self.function.windows().as_slice() {
            [window] if window.base == u64::from(BAR) => Ok(()),
            windows => bail!("the function decodes {windows:x?}"),
        }
    }

    fn config(&self, at: u16) -> u32 {
        let mut data = [0; 4];
        // Dwords only, as a bus has them.
        let shift = u32::from(at % 4) * 8;
        self.function.config_read(at & !3, &mut data);
        u32::from_le_bytes(data) >> shift
    }

    fn set_config(&self, at: u16, value: u32) -> Result<()> {
        if !at.is_multiple_of(4) {
            bail!("{at:#x} is no dword");
        }
        self.function.config_write(at, &value.to_le_bytes());
        Ok(())
    }

    fn bar(&self, at: u64) -> u32 {
        let mut data = [0xff; 4];
        self.function.bar_read(0, at, &mut data);
        u32::from_le_bytes(data)
    }

    /// Where the guest finds a capability.
    fn capability(&self, id: u8) -> Option<u16> {
        let mut at = self.config(0x34) & 0xfc;
        for _ in 0..48 {
            let place = u16::try_from(at).ok().filter(|place| *place >= 0x40)?;
            let header = self.config(place);
            if header.to_le_bytes()[0] == id {
                return Some(place);
            }
            at = header >> 8 & 0xfc;
        }
        None
    }
}

/// A machine that takes note.
#[derive(Debug, Default)]
struct Seams {
    routes: Mutex<Vec<std::sync::Weak<Route>>>,
    slots: Mutex<Vec<(u64, u64)>>,
}

#[derive(Debug)]
struct Route {
    event: OwnedFd,
    message: Mutex<Option<MsiMessage>>,
}

#[derive(Debug)]
struct RouteHandle(Arc<Route>);

impl Seams {
    fn routes(&self) -> Vec<Arc<Route>> {
        let routes = self.routes.lock().expect("no panic");
        routes.iter().filter_map(std::sync::Weak::upgrade).collect()
    }

    fn messages(&self) -> Vec<Option<MsiMessage>> {
        let message = |route: Arc<Route>| *route.message.lock().expect("no panic");
        self.routes().into_iter().map(message).collect()
    }

    fn slots(&self) -> Vec<(u64, u64)> {
        self.slots.lock().expect("no panic").clone()
    }

    /// How often the event of a route was signalled since this was asked last.
    fn signals(&self, number: usize) -> Result<u64> {
        let routes = self.routes();
        let Some(route) = routes.get(number) else {
            bail!("there is no route {number}");
        };
        let mut count = [0; 8];
        match rustix::io::read(&route.event, &mut count) {
            Ok(_) => Ok(u64::from_ne_bytes(count)),
            Err(rustix::io::Errno::AGAIN) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

impl InterruptRoutes for Seams {
    fn route(&self, _requester: &Arc<Requester>) -> io::Result<Box<dyn VectorRoute>> {
        let route = Arc::new(Route {
            event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            message: Mutex::new(None),
        });
        let mut routes = self.routes.lock().expect("no panic");
        routes.push(Arc::downgrade(&route));
        Ok(Box::new(RouteHandle(route)))
    }
}

impl VectorRoute for RouteHandle {
    fn event(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }

    fn set(&self, message: Option<MsiMessage>) -> io::Result<()> {
        *self.0.message.lock().expect("no panic") = message;
        Ok(())
    }

    fn is_pending(&self) -> bool {
        false
    }
}

impl MemorySlots for Seams {
    fn map(&self, gpa: Gpa, direct: &Direct) -> io::Result<()> {
        let len = direct.part().end - direct.part().start;
        self.slots.lock().expect("no panic").push((gpa.0, len));
        Ok(())
    }

    fn unmap(&self, gpa: Gpa, _direct: &Direct) -> io::Result<()> {
        let mut slots = self.slots.lock().expect("no panic");
        slots.retain(|(at, _)| *at != gpa.0);
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Line {
    level: AtomicBool,
    listener: Mutex<Option<Weak<dyn EndOfInterrupt>>>,
}

impl Line {
    /// The interrupt ends at a controller.
    fn end(&self) {
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listener) = listener.as_ref().and_then(Weak::upgrade) {
            listener.interrupt_ended();
        }
    }

    fn wait_until(&self, level: bool) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.level.load(Ordering::Acquire) != level {
            if Instant::now() > deadline {
                bail!("the line did not become {level}");
            }
            thread::yield_now();
        }
        Ok(())
    }
}

impl IrqLine for Line {
    fn set_level(&self, asserted: bool) {
        self.level.store(asserted, Ordering::Release);
    }

    fn listen(&self, listener: Weak<dyn EndOfInterrupt>) {
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(listener);
    }
}
