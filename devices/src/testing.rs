// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Fakes that record what a device under test does to the outside, and a PCI function that does nothing.

use crate::control::{MachineControl, MachineRequest};
use crate::irq::IrqLine;
use crate::pci::function::{Function, FunctionBuilder};
use crate::pci::{BarWindow, PciFunction};
use iommu::ids::{Requester, SourceId};
use iommu::msi::{MsiMessage, MsiSender};
use std::sync::{Arc, Mutex};

/// A line that remembers every level it was set to.
#[derive(Debug, Default)]
pub(crate) struct RecordingLine(Mutex<Vec<bool>>);

impl RecordingLine {
    /// The levels so far, oldest first.
    pub(crate) fn levels(&self) -> Vec<bool> {
        self.0.lock().unwrap().clone()
    }
}

impl IrqLine for RecordingLine {
    fn set_level(&self, asserted: bool) {
        self.0.lock().unwrap().push(asserted);
    }
}

/// A sender that remembers the messages of bus masters and drops the others, as the machine's does.
#[derive(Debug, Default)]
pub(crate) struct RecordingSender(Mutex<Vec<(SourceId, MsiMessage)>>);

impl RecordingSender {
    /// Takes the messages so far out: source id, address, data.
    pub(crate) fn take(&self) -> Vec<(u16, u64, u32)> {
        std::mem::take(&mut *self.0.lock().unwrap())
            .into_iter()
            .map(|(source, message)| (source.0, message.address, message.data))
            .collect()
    }
}

impl MsiSender for RecordingSender {
    fn send(&self, requester: &Requester, message: MsiMessage) {
        if requester.is_bus_master() {
            self.0.lock().unwrap().push((requester.source(), message));
        }
    }
}

/// A machine that remembers what it was asked for.
#[derive(Debug, Default)]
pub(crate) struct RecordingMachine(Mutex<Vec<MachineRequest>>);

impl RecordingMachine {
    /// Takes the requests so far out.
    pub(crate) fn take(&self) -> Vec<MachineRequest> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl MachineControl for RecordingMachine {
    fn request(&self, what: MachineRequest) {
        self.0.lock().unwrap().push(what);
    }
}

/// A function whose BARs remember writes and read as 0x5a.
#[derive(Debug)]
pub(crate) struct TestFunction {
    function: Function,
    log: Mutex<Vec<(u8, u64, usize)>>,
    resets: Mutex<usize>,
    gsi: Mutex<Option<u8>>,
}

impl TestFunction {
    pub(crate) fn new(builder: FunctionBuilder) -> Arc<Self> {
        let sender = Arc::new(RecordingSender::default());
        Arc::new(Self {
            function: builder.build(Arc::default(), sender),
            log: Mutex::default(),
            resets: Mutex::default(),
            gsi: Mutex::default(),
        })
    }

    /// Takes the BAR writes so far out: BAR, offset, bytes.
    pub(crate) fn take_writes(&self) -> Vec<(u8, u64, usize)> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }

    /// How often it was reset.
    pub(crate) fn resets(&self) -> usize {
        *self.resets.lock().unwrap()
    }

    /// The interrupt that its pin was connected to.
    pub(crate) fn gsi(&self) -> Option<u8> {
        *self.gsi.lock().unwrap()
    }

    /// 32 bits of configuration space.
    pub(crate) fn config(&self, at: u16) -> u32 {
        let mut data = [0; 4];
        self.config_read(at, &mut data);
        u32::from_le_bytes(data)
    }
}

impl PciFunction for TestFunction {
    fn config_read(&self, offset: u16, data: &mut [u8]) {
        assert!(offset < 4096 && [1, 2, 4].contains(&data.len()));
        assert!(usize::from(offset % 4) + data.len() <= 4);
        self.function.config_read(offset, data);
    }

    fn config_write(&self, offset: u16, data: &[u8]) {
        assert!(offset < 4096 && [1, 2, 4].contains(&data.len()));
        assert!(usize::from(offset % 4) + data.len() <= 4);
        if self
            .function
            .config_write(offset, data)
            .function_level_reset
        {
            self.reset();
        }
    }

    fn windows(&self) -> Vec<BarWindow> {
        self.function.windows()
    }

    fn bar_read(&self, bar: u8, offset: u64, data: &mut [u8]) {
        if !self.function.bar_read(bar, offset, data) {
            data.fill(0x5a);
        }
    }

    fn bar_write(&self, bar: u8, offset: u64, data: &[u8]) {
        if !self.function.bar_write(bar, offset, data) {
            self.log.lock().unwrap().push((bar, offset, data.len()));
        }
    }

    fn requester(&self) -> &Arc<Requester> {
        self.function.requester()
    }

    fn connect_intx(&self, gsi: u8, line: Arc<dyn IrqLine>) {
        *self.gsi.lock().unwrap() = Some(gsi);
        self.function.connect_intx(line);
    }

    fn reset(&self) {
        *self.resets.lock().unwrap() += 1;
        self.function.reset();
    }
}
