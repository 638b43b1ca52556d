// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A function that can be taken away while processors are at work with it.
//!
//! Everybody reaches the function through this gate. Once [`Removable::take`] has returned, no access is inside the function and
//! none will be: later ones find nothing, and read all-ones. Lock rule: an access holds the gate for reading for as long as the
//! function works on it, before any other lock; whoever takes the function holds no lock at all.

use super::{BarWindow, PciFunction};
use crate::irq::IrqLine;
use iommu::ids::Requester;
use std::sync::{Arc, PoisonError, RwLock};

/// The gate.
#[derive(Debug)]
pub struct Removable {
    requester: Arc<Requester>,
    function: RwLock<Option<Arc<dyn PciFunction>>>,
}

impl Removable {
    /// A gate before `function`.
    #[must_use]
    pub fn new(function: Arc<dyn PciFunction>) -> Arc<Self> {
        Arc::new(Self {
            requester: Arc::clone(function.requester()),
            function: RwLock::new(Some(function)),
        })
    }

    /// Waits for the accesses that are under way and takes the function; `None` when it is gone already. Its own threads and
    /// DMA go on until it is [reset](PciFunction::reset).
    #[must_use]
    pub fn take(&self) -> Option<Arc<dyn PciFunction>> {
        let mut function = self
            .function
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        function.take()
    }

    fn with<T: Default>(&self, access: impl FnOnce(&dyn PciFunction) -> T) -> T {
        let function = self.function.read().unwrap_or_else(PoisonError::into_inner);
        function
            .as_ref()
            .map(|function| access(&**function))
            .unwrap_or_default()
    }
}

impl PciFunction for Removable {
    fn config_read(&self, offset: u16, data: &mut [u8]) {
        self.with(|function| function.config_read(offset, data));
    }

    fn config_write(&self, offset: u16, data: &[u8]) {
        self.with(|function| function.config_write(offset, data));
    }

    fn windows(&self) -> Vec<BarWindow> {
        self.with(|function| function.windows())
    }

    fn bar_read(&self, bar: u8, offset: u64, data: &mut [u8]) {
        self.with(|function| function.bar_read(bar, offset, data));
    }

    fn bar_write(&self, bar: u8, offset: u64, data: &[u8]) {
        self.with(|function| function.bar_write(bar, offset, data));
    }

    fn requester(&self) -> &Arc<Requester> {
        &self.requester
    }

    fn forwarding_changed(&self) {
        self.with(|function| function.forwarding_changed());
    }

    fn connect_intx(&self, gsi: u8, line: Arc<dyn IrqLine>) {
        self.with(|function| function.connect_intx(gsi, line));
    }

    fn pause(&self) {
        self.with(|function| function.pause());
    }

    fn resume(&self) {
        self.with(|function| function.resume());
    }

    fn reset(&self) {
        self.with(|function| function.reset());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pci::config::Identity;
    use crate::pci::function::FunctionBuilder;
    use crate::testing::TestFunction;
    use std::sync::mpsc;
    use std::thread;

    fn device() -> Arc<TestFunction> {
        TestFunction::new(FunctionBuilder::endpoint(&Identity {
            vendor: 0x1234,
            ..Identity::default()
        }))
    }

    #[test]
    fn access_passes_until_the_function_is_taken_and_finds_nothing_then() {
        let device = device();
        let gate = Removable::new(device.clone());
        let vendor = || {
            let mut data = [0xff; 2];
            gate.config_read(0, &mut data);
            data
        };
        assert_eq!(vendor(), [0x34, 0x12]);
        gate.bar_write(0, 4, &[1]);
        gate.reset();
        assert_eq!((device.take_writes().len(), device.resets()), (1, 1));
        assert!(gate.take().is_some());
        assert!(gate.take().is_none());
        assert_eq!(vendor(), [0xff, 0xff]);
        gate.bar_write(0, 4, &[1]);
        gate.config_write(4, &[7, 0]);
        gate.reset();
        assert_eq!((device.take_writes().len(), device.resets()), (0, 1));
        assert!(gate.windows().is_empty());
    }

    /// A function whose reads wait for the test.
    #[derive(Debug)]
    struct Slow {
        inner: Arc<TestFunction>,
        entered: mpsc::SyncSender<()>,
        go_on: std::sync::Mutex<mpsc::Receiver<()>>,
    }

    impl PciFunction for Slow {
        fn config_read(&self, _: u16, _: &mut [u8]) {}

        fn config_write(&self, _: u16, _: &[u8]) {}

        fn windows(&self) -> Vec<BarWindow> {
            Vec::new()
        }

        fn bar_read(&self, _: u8, _: u64, data: &mut [u8]) {
            self.entered.send(()).unwrap();
            self.go_on.lock().unwrap().recv().unwrap();
            data.fill(0x11);
        }

        fn bar_write(&self, _: u8, _: u64, _: &[u8]) {}

        fn requester(&self) -> &Arc<Requester> {
            self.inner.requester()
        }

        fn connect_intx(&self, _: u8, _: Arc<dyn IrqLine>) {}

        fn reset(&self) {}
    }

    #[test]
    fn taking_waits_for_the_access_that_is_under_way() {
        let (entered, has_entered) = mpsc::sync_channel(1);
        let (go_on, may_go_on) = mpsc::channel();
        let gate = Removable::new(Arc::new(Slow {
            inner: device(),
            entered,
            go_on: std::sync::Mutex::new(may_go_on),
        }));
        let reader = thread::spawn({
            let gate = Arc::clone(&gate);
            move || {
                let mut data = [0xff];
                gate.bar_read(0, 0, &mut data);
                data
            }
        });
        has_entered.recv().unwrap();
        let (taken, is_taken) = mpsc::channel();
        let taker = thread::spawn({
            let gate = Arc::clone(&gate);
            move || taken.send(gate.take().is_some())
        });
        assert!(is_taken.try_recv().is_err());
        go_on.send(()).unwrap();
        assert!(is_taken.recv().unwrap());
        assert_eq!(reader.join().unwrap(), [0x11]);
        taker.join().unwrap().unwrap();
        let mut data = [0xff];
        gate.bar_read(0, 0, &mut data);
        assert_eq!(data, [0xff]);
    }
}
