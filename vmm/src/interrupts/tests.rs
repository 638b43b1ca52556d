// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Messages and routes against a kernel that only writes down what it is told.

use super::*;
use crate::board::EoiSink;
use std::sync::Mutex;

#[derive(Debug, Default)]
struct Kernel {
    signals: Mutex<Vec<MsiMessage>>,
    routes: Mutex<Vec<Vec<Route>>>,
}

impl LocalApics for Kernel {
    fn signal(&self, message: MsiMessage) -> io::Result<()> {
        self.signals.lock().unwrap().push(message);
        Ok(())
    }

    fn set_routes(&self, routes: &[Route]) -> io::Result<()> {
        self.routes.lock().unwrap().push(routes.to_vec());
        Ok(())
    }

    fn attach(&self, _: &EventFd, gsi: u32) -> io::Result<()> {
        panic!("no event is routed to {gsi}")
    }

    fn detach(&self, _: &EventFd, gsi: u32) -> io::Result<()> {
        panic!("no event is routed to {gsi}")
    }
}

/// Passes source 00:1f.0 only and adds 0x10 to the vector; trigger mode as in `level`.
#[derive(Debug)]
struct Table {
    level: Mutex<bool>,
}

const IOAPIC: SourceId = SourceId(0x00f8);

impl Remap for Table {
    fn remap_to(&self, source: SourceId, message: MsiMessage, processors: &dyn MsiSink) {
        if let Some(remapped) = self.preview(source, message) {
            processors.deliver(remapped);
        }
    }

    fn preview(&self, source: SourceId, message: MsiMessage) -> Option<MsiMessage> {
        let level = u32::from(*self.level.lock().unwrap()) << 15;
        (source == IOAPIC).then_some(MsiMessage {
            address: message.address,
            data: ((message.data & 0xff) + 0x10) | level,
        })
    }
}

#[derive(Debug, Default)]
struct FakePins {
    messages: Mutex<Vec<(u32, MsiMessage)>>,
    ended: Mutex<Vec<u32>>,
}

impl Pins for FakePins {
    fn level_messages(&self) -> Vec<(u32, MsiMessage)> {
        self.messages.lock().unwrap().clone()
    }

    fn end_of_interrupt(&self, pin: u32) {
        self.ended.lock().unwrap().push(pin);
    }
}

fn message(data: u32) -> MsiMessage {
    MsiMessage {
        address: 0xfee0_1000,
        data,
    }
}

fn sender(kernel: &Arc<Kernel>) -> Arc<RemappedMessages> {
    let table = Arc::new(Table {
        level: Mutex::new(false),
    });
    RemappedMessages::new(table, Processors::new(kernel.clone()))
}

fn requester(source: SourceId) -> Requester {
    let requester = Requester::new(source);
    requester.set_bus_master(true);
    requester
}

#[test]
fn message_that_passes_remapping_is_signalled_as_remapped() {
    let kernel = Arc::new(Kernel::default());
    sender(&kernel).send(&requester(IOAPIC), message(0x21));
    assert_eq!(*kernel.signals.lock().unwrap(), [message(0x31)]);
}

#[test]
fn message_that_is_blocked_is_dropped() {
    let kernel = Arc::new(Kernel::default());
    sender(&kernel).send(&requester(SourceId(0x0010)), message(0x21));
    assert!(kernel.signals.lock().unwrap().is_empty());
}

#[test]
fn message_without_bus_mastering_is_dropped() {
    let kernel = Arc::new(Kernel::default());
    sender(&kernel).send(&Requester::new(IOAPIC), message(0x21));
    assert!(kernel.signals.lock().unwrap().is_empty());
}

#[test]
fn message_outside_the_interrupt_range_is_dropped() {
    let kernel = Arc::new(Kernel::default());
    for address in [0x1000, 0xfed0_0000, 0x1_fee0_0000, 0xfef0_0000] {
        let message = MsiMessage { address, data: 1 };
        sender(&kernel).send(&requester(IOAPIC), message);
    }
    assert!(kernel.signals.lock().unwrap().is_empty());
}

struct Routes {
    kernel: Arc<Kernel>,
    table: Arc<Table>,
    pins: Arc<FakePins>,
    routes: Arc<IoapicRoutes>,
}

/// Pin 4 sends vector 0x41 and pins 5 and 6 send vector 0x51 before remapping.
fn routes() -> Routes {
    let kernel = Arc::new(Kernel::default());
    let table = Arc::new(Table {
        level: Mutex::new(true),
    });
    let pins = Arc::new(FakePins::default());
    *pins.messages.lock().unwrap() = vec![
        (4, message(0x8041)),
        (5, message(0x8051)),
        (6, message(0x8051)),
    ];
    let kept = RouteTable::new(kernel.clone());
    let routes = IoapicRoutes::new(pins.clone(), IOAPIC, table.clone(), kept);
    Routes {
        kernel,
        table,
        pins,
        routes,
    }
}

#[test]
fn routes_hold_the_remapped_level_messages() {
    let all = routes();
    all.routes.refresh();
    let route = |gsi, data| Route {
        gsi,
        message: message(data),
    };
    let expected = vec![route(4, 0x8051), route(5, 0x8061), route(6, 0x8061)];
    assert_eq!(*all.kernel.routes.lock().unwrap(), [expected]);
}

#[test]
fn routes_unchanged_are_not_set_again() {
    let all = routes();
    all.routes.refresh();
    all.routes.refresh();
    assert_eq!(all.kernel.routes.lock().unwrap().len(), 1);
    all.pins.messages.lock().unwrap().pop();
    all.routes.refresh();
    assert_eq!(all.kernel.routes.lock().unwrap()[1].len(), 2);
}

#[test]
fn routes_that_remapping_makes_edge_are_taken_away() {
    let all = routes();
    all.routes.refresh();
    *all.table.level.lock().unwrap() = false;
    all.routes.refresh();
    assert_eq!(all.kernel.routes.lock().unwrap()[1], []);
}

#[test]
fn eoi_of_a_remapped_vector_ends_every_pin_that_sends_it() {
    let all = routes();
    all.routes.refresh();
    all.routes.eoi(0x61);
    assert_eq!(*all.pins.ended.lock().unwrap(), [5, 6]);
    // Pin 4's vector before remapping is 0x41, which is nobody's now.
    all.routes.eoi(0x41);
    assert_eq!(*all.pins.ended.lock().unwrap(), [5, 6]);
}
