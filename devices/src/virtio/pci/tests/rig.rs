// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A driver of the transport, register by register, and a device that it can drive.

use super::super::*;
use crate::testing::{RecordingLine, RecordingSender};
use crate::virtio::ring::RingError;
use crate::virtio::testing::{Guest, RawQueue};
use crate::virtio::{QueueHandler, Wait};
use std::io;
use std::sync::Condvar;
use std::sync::mpsc::{Receiver, Sender};

pub(super) const QUEUE: u64 = 0x4000;
pub(super) const BUFFER: u64 = 0x2_0000;

// Offsets in the common configuration.
pub(super) const DEVICE_FEATURE_SELECT: u64 = 0;
pub(super) const DEVICE_FEATURE: u64 = 4;
pub(super) const DRIVER_FEATURE_SELECT: u64 = 8;
pub(super) const DRIVER_FEATURE: u64 = 12;
pub(super) const CONFIG_VECTOR: u64 = 16;
pub(super) const NUM_QUEUES: u64 = 18;
pub(super) const STATUS: u64 = 20;
pub(super) const QUEUE_SELECT: u64 = 22;
pub(super) const QUEUE_SIZE: u64 = 24;
pub(super) const QUEUE_VECTOR: u64 = 26;
pub(super) const QUEUE_ENABLE: u64 = 28;
pub(super) const QUEUE_NOTIFY_OFF: u64 = 30;
pub(super) const QUEUE_DESC: u64 = 32;
pub(super) const QUEUE_DRIVER: u64 = 40;
pub(super) const QUEUE_DEVICE: u64 = 48;

pub(super) const ISR: u64 = 0x1000;
pub(super) const DEVICE_CONFIG: u64 = 0x2000;
pub(super) const NOTIFY: u64 = 0x3000;
pub(super) const MSIX_TABLE: u64 = 0x4000;

pub(super) const ACCESS_PLATFORM_AND_VERSION_1: u32 = 0x3;
pub(super) const NEEDS_RESET: u8 = 0x40;
pub(super) const RUNNING: u8 = 0x0f;

/// A device with two queues; queue 0 fills one byte of each chain with `!`.
#[derive(Debug)]
pub(super) struct Probe {
    /// What queue 0 waits for inside the section of each request, and what it says before it waits.
    gate: Option<Arc<Gate>>,
    alive: Arc<()>,
}

#[derive(Debug)]
pub(super) struct Gate {
    pub(super) entered: Mutex<Sender<()>>,
    pub(super) open: Mutex<Receiver<()>>,
}

impl VirtioDevice for Probe {
    fn id(&self) -> u16 {
        4
    }
    fn name(&self) -> &'static str {
        "probe"
    }
    fn class(&self) -> u32 {
        0x12_34_56
    }
    fn features(&self) -> u64 {
        1 << 5
    }
    fn queue_sizes(&self) -> &[u16] {
        &[64, 16]
    }
    fn config(&self) -> &[u8] {
        b"configuration"
    }
    fn activate(&self, _features: u64) -> io::Result<Vec<Box<dyn QueueHandler>>> {
        let queue = || {
            Box::new(ProbeQueue {
                gate: self.gate.clone(),
                _alive: Arc::clone(&self.alive),
            }) as Box<dyn QueueHandler>
        };
        Ok(vec![queue(), queue()])
    }
}

#[derive(Debug)]
pub(super) struct ProbeQueue {
    gate: Option<Arc<Gate>>,
    _alive: Arc<()>,
}

impl QueueHandler for ProbeQueue {
    fn process(&mut self, ring: &mut Ring) -> Result<Wait, RingError> {
        let gate = self.gate.as_ref();
        while ring.serve(|chain| {
            if let Some(gate) = gate {
                gate.entered.lock().unwrap().send(()).unwrap();
                gate.open.lock().unwrap().recv().unwrap();
            }
            chain.writable.write(b"!")?;
            Ok(1)
        })? {}
        Ok(Wait::Chains)
    }
}

/// Messages, and a way to wait for them.
#[derive(Debug, Default)]
pub(super) struct Messages {
    pub(super) inner: RecordingSender,
    pub(super) seen: Mutex<Vec<(u16, u64, u32)>>,
    pub(super) changed: Condvar,
}

impl MsiSender for Messages {
    fn send(&self, requester: &Requester, message: iommu::msi::MsiMessage) {
        self.inner.send(requester, message);
        self.seen.lock().unwrap().extend(self.inner.take());
        self.changed.notify_all();
    }
}

impl Messages {
    pub(super) fn wait_for(&self, count: usize) -> Vec<(u16, u64, u32)> {
        let limit = std::time::Duration::from_secs(60);
        let seen = self.seen.lock().unwrap();
        let (seen, timeout) = self
            .changed
            .wait_timeout_while(seen, limit, |seen| seen.len() < count)
            .unwrap();
        assert!(!timeout.timed_out(), "no message came: {seen:?}");
        seen.clone()
    }
}

pub(super) struct Rig {
    pub(super) guest: Guest,
    pub(super) function: Arc<VirtioPci>,
    pub(super) messages: Arc<Messages>,
    pub(super) line: Arc<RecordingLine>,
    pub(super) alive: Arc<()>,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(None)
    }

    pub(super) fn with(gate: Option<Arc<Gate>>) -> Self {
        let guest = Guest::translated();
        let (messages, line) = (Arc::<Messages>::default(), Arc::<RecordingLine>::default());
        let alive = Arc::new(());
        let device = Box::new(Probe {
            gate,
            alive: Arc::clone(&alive),
        });
        let space = Arc::clone(&guest.space);
        let place = DeviceType::IntegratedEndpoint;
        let function = VirtioPci::new(device, place, space, messages.clone());
        function.connect_intx(16, line.clone());
        // Memory and bus master.
        function.config_write(0x04, &[0x06, 0]);
        Self {
            guest,
            function,
            messages,
            line,
            alive,
        }
    }

    pub(super) fn get(&self, at: u64, len: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes[..len].fill(0xff);
        self.function.bar_read(0, at, &mut bytes[..len]);
        u64::from_le_bytes(bytes)
    }

    pub(super) fn put(&self, at: u64, len: usize, value: u64) {
        self.function.bar_write(0, at, &value.to_le_bytes()[..len]);
    }

    pub(super) fn status(&self) -> u8 {
        u8::try_from(self.get(STATUS, 1)).unwrap()
    }

    /// Accepts these features; the status that it leads to.
    pub(super) fn negotiate(&self, low: u32, high: u32) -> u8 {
        for status in [0, 1, 3] {
            self.put(STATUS, 1, status);
        }
        for (select, value) in [(0, low), (1, high)] {
            self.put(DRIVER_FEATURE_SELECT, 4, select);
            self.put(DRIVER_FEATURE, 4, value.into());
        }
        self.put(STATUS, 1, 0x0b);
        self.status()
    }

    pub(super) fn place_queue(&self, index: u16, queue: &RawQueue<'_>, vector: u64) {
        let layout = queue.layout();
        self.put(QUEUE_SELECT, 2, index.into());
        self.put(QUEUE_SIZE, 2, layout.size.into());
        self.put(QUEUE_VECTOR, 2, vector);
        for (register, value) in [
            (QUEUE_DESC, layout.desc),
            (QUEUE_DRIVER, layout.driver),
            (QUEUE_DEVICE, layout.device),
        ] {
            self.put(register, 4, value & 0xffff_ffff);
            self.put(register + 4, 4, value >> 32);
        }
        self.put(QUEUE_ENABLE, 2, 1);
    }

    pub(super) fn start(&self, queue: &RawQueue<'_>) {
        assert_eq!(self.negotiate(0, ACCESS_PLATFORM_AND_VERSION_1), 0x0b);
        self.put(CONFIG_VECTOR, 2, 0);
        self.place_queue(0, queue, 1);
        self.put(STATUS, 1, 0x0f);
    }

    /// Programs vectors 0..3 as address 0xfee00000, data 0x40 + vector, and enables MSI-X.
    pub(super) fn enable_msix(&self) {
        for vector in 0..3 {
            let entry = MSIX_TABLE + 16 * vector;
            self.put(entry, 8, 0xfee0_0000);
            self.put(entry + 8, 4, 0x40 + vector);
            self.put(entry + 12, 4, 0);
        }
        let (at, _) = self
            .capabilities()
            .into_iter()
            .find(|c| c.1 == 0x11)
            .unwrap();
        self.function.config_write(at + 2, &[0, 0x80]);
    }

    /// Offsets and ids of the capabilities.
    pub(super) fn capabilities(&self) -> Vec<(u16, u8)> {
        let byte = |at: u16| {
            let mut byte = [0];
            self.function.config_read(at, &mut byte);
            byte[0]
        };
        let mut found = Vec::new();
        let mut at = byte(0x34);
        while at != 0 {
            found.push((u16::from(at), byte(at.into())));
            at = byte(u16::from(at) + 1);
        }
        found
    }

    pub(super) fn config(&self, at: u16) -> u32 {
        let mut bytes = [0; 4];
        self.function.config_read(at, &mut bytes);
        u32::from_le_bytes(bytes)
    }
}
