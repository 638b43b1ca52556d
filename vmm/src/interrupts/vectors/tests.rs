// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Vectors against a kernel that only writes down what it is told, and against KVM.

use super::super::{LocalApics, Processors, RemappedMessages, Route};
use super::*;
use crate::kvm::vm::Vm;
use iommu::ids::SourceId;
use iommu::msi::MsiSink;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
struct Kernel {
    log: Mutex<Vec<String>>,
    refuses: AtomicBool,
}

impl Kernel {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }

    fn note(&self, what: String) -> io::Result<()> {
        self.log.lock().unwrap().push(what);
        Ok(())
    }
}

impl LocalApics for Kernel {
    fn signal(&self, message: MsiMessage) -> io::Result<()> {
        self.note(format!("signal {:#x}", message.data))
    }

    fn set_routes(&self, routes: &[Route]) -> io::Result<()> {
        if self.refuses.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let route = |route: &Route| format!(" {}:{:#x}", route.gsi, route.message.data);
        self.note(format!(
            "routes{}",
            routes.iter().map(route).collect::<String>()
        ))
    }

    fn attach(&self, _: &EventFd, gsi: u32) -> io::Result<()> {
        self.note(format!("attach {gsi}"))
    }

    fn detach(&self, _: &EventFd, gsi: u32) -> io::Result<()> {
        self.note(format!("detach {gsi}"))
    }
}

/// Adds `add` to the data, or blocks.
#[derive(Debug, Default)]
struct Table {
    add: Mutex<Option<u32>>,
    faults: AtomicUsize,
}

impl Remap for Table {
    fn remap_to(&self, source: SourceId, message: MsiMessage, processors: &dyn MsiSink) {
        match self.preview(source, message) {
            Some(remapped) => processors.deliver(remapped),
            None => drop(self.faults.fetch_add(1, Ordering::Relaxed)),
        }
    }

    fn preview(&self, _: SourceId, message: MsiMessage) -> Option<MsiMessage> {
        let add = *self.add.lock().unwrap();
        add.map(|add| MsiMessage {
            data: message.data + add,
            ..message
        })
    }
}

struct Bench {
    kernel: Arc<Kernel>,
    table: Arc<Table>,
    vectors: Arc<VectorRoutes>,
    routes: Arc<dyn InterruptRoutes>,
    requester: Arc<Requester>,
}

fn bench() -> Bench {
    let kernel = Arc::new(Kernel::default());
    let table = Arc::new(Table::default());
    *table.add.lock().unwrap() = Some(0x10);
    let vectors = VectorRoutes::new(RouteTable::new(kernel.clone())).unwrap();
    let messages = RemappedMessages::new(table.clone(), Processors::new(kernel.clone()));
    let requester = Arc::new(Requester::new(SourceId(0x0100)));
    requester.set_bus_master(true);
    Bench {
        routes: vectors.behind(table.clone(), messages),
        kernel,
        table,
        vectors,
        requester,
    }
}

impl Bench {
    fn vector(&self) -> Box<dyn VectorRoute> {
        self.routes.route(&self.requester).unwrap()
    }

    fn remap(&self, add: Option<u32>) {
        *self.table.add.lock().unwrap() = add;
        self.vectors.refresh();
    }

    fn faults(&self) -> usize {
        self.table.faults.load(Ordering::Relaxed)
    }
}

fn message(data: u32) -> Option<MsiMessage> {
    Some(MsiMessage {
        address: 0xfee0_0000,
        data,
    })
}

fn signal(vector: &dyn VectorRoute) {
    rustix::io::write(vector.event(), &1u64.to_ne_bytes()).unwrap();
}

/// Waits for the thread.
fn until(mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "the thread did not do it");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn vector_is_routed_as_remapped_and_detached_while_masked() {
    let bench = bench();
    let vector = bench.vector();
    assert_eq!(
        bench.kernel.take(),
        [""; 0],
        "nothing before it is unmasked"
    );
    vector.set(message(0x41)).unwrap();
    assert_eq!(bench.kernel.take(), ["routes 24:0x51", "attach 24"]);
    vector.set(None).unwrap();
    assert_eq!(bench.kernel.take(), ["detach 24"]);
    assert!(!vector.is_pending());
    signal(&*vector);
    assert!(vector.is_pending());
    vector.set(message(0x41)).unwrap();
    assert_eq!(bench.kernel.take(), ["attach 24"], "the route was kept");
    assert!(!vector.is_pending());
    drop(vector);
    assert_eq!(bench.kernel.take(), ["detach 24"]);
}

#[test]
fn vectors_that_change_together_cost_one_table_and_stay_attached() {
    let bench = bench();
    let vectors = [0x41, 0x42, 0x43].map(|data| {
        let vector = bench.vector();
        vector.set(message(data)).unwrap();
        vector
    });
    vectors[1].set(None).unwrap();
    bench.kernel.take();
    bench.remap(Some(0x20));
    assert_eq!(bench.kernel.take(), ["routes 24:0x61 25:0x52 26:0x63"]);
    bench.vectors.refresh();
    assert_eq!(bench.kernel.take(), [""; 0]);
    drop(vectors);
    bench.kernel.take();
    let again = bench.vector();
    again.set(message(0x44)).unwrap();
    assert_eq!(bench.kernel.take(), ["routes 24:0x64", "attach 24"]);
}

#[test]
fn signal_of_a_blocked_vector_is_a_fault_until_its_entry_is_back() {
    let bench = bench();
    let vector = bench.vector();
    vector.set(message(0x41)).unwrap();
    bench.kernel.take();
    bench.remap(None);
    assert_eq!(bench.kernel.take(), ["detach 24"]);
    assert_eq!(bench.faults(), 0, "nothing was signalled");
    signal(&*vector);
    until(|| bench.faults() == 1);
    assert!(!vector.is_pending());
    bench.remap(Some(0x30));
    assert_eq!(bench.kernel.take(), ["routes 24:0x71", "attach 24"]);
    assert_eq!(bench.faults(), 1);
}

#[test]
fn entry_that_becomes_present_unreported_delivers_the_next_signal() {
    let bench = bench();
    bench.remap(None);
    let vector = bench.vector();
    vector.set(message(0x41)).unwrap();
    *bench.table.add.lock().unwrap() = Some(0x10);
    signal(&*vector);
    let mut log = Vec::new();
    until(|| {
        log.extend(bench.kernel.take());
        log.len() == 3
    });
    assert_eq!(log, ["signal 0x51", "routes 24:0x51", "attach 24"]);
    assert_eq!(bench.faults(), 0);
}

#[test]
fn vector_that_is_blocked_and_masked_waits() {
    let bench = bench();
    bench.remap(None);
    let vector = bench.vector();
    signal(&*vector);
    bench.vectors.refresh();
    assert!(vector.is_pending());
    vector.set(message(0x41)).unwrap();
    until(|| bench.faults() == 1);
    assert_eq!(bench.kernel.take(), [""; 0]);
}

#[test]
fn address_that_is_no_interrupts_has_no_route() {
    let bench = bench();
    let vector = bench.vector();
    let elsewhere = MsiMessage {
        address: 0x1000,
        data: 1,
    };
    vector.set(Some(elsewhere)).unwrap();
    signal(&*vector);
    let taken = || {
        let vectors = bench.vectors.shared.lock();
        !vectors[&24].is_signalled()
    };
    until(taken);
    assert_eq!((bench.kernel.take(), bench.faults()), (Vec::new(), 0));
}

#[test]
fn vector_whose_route_is_refused_is_sent_by_the_thread() {
    let bench = bench();
    bench.kernel.refuses.store(true, Ordering::Relaxed);
    let vector = bench.vector();
    vector.set(message(0x41)).unwrap();
    signal(&*vector);
    let mut log = Vec::new();
    until(|| {
        log.extend(bench.kernel.take());
        !log.is_empty()
    });
    assert_eq!(log, ["signal 0x51"]);
    bench.kernel.refuses.store(false, Ordering::Relaxed);
    bench.vectors.refresh();
    assert_eq!(bench.kernel.take(), ["routes 24:0x51", "attach 24"]);
}

#[test]
fn vectors_are_as_many_as_routes() {
    let bench = bench();
    {
        let mut vectors = bench.vectors.shared.lock();
        let event = Arc::new(event().unwrap());
        for gsi in 25..4096 {
            let vector = Vector {
                event: Arc::clone(&event),
                remap: bench.table.clone(),
                messages: RemappedMessages::new(
                    bench.table.clone(),
                    Processors::new(bench.kernel.clone()),
                ),
                requester: bench.requester.clone(),
                message: None,
                server: Server::Nobody,
            };
            vectors.insert(gsi, vector);
        }
    }
    let last = bench.vector();
    let none = bench.routes.route(&bench.requester).unwrap_err();
    assert!(none.to_string().contains("4096"), "{none}");
    drop(last);
    drop(bench.vector());
}

/// KVM takes a signal at once, also one that was there before, and none while the vector is masked.
#[test]
#[cfg_attr(not(has_kvm), ignore = "no usable /dev/kvm on this machine")]
fn kvm_takes_the_signals_of_a_vector_that_is_not_masked() {
    let vm = Arc::new(Vm::new().unwrap());
    let table = Arc::new(Table::default());
    *table.add.lock().unwrap() = Some(0x10);
    let vectors = VectorRoutes::new(RouteTable::new(vm.clone())).unwrap();
    let messages = RemappedMessages::new(table.clone(), Processors::new(vm));
    let routes = vectors.behind(table.clone(), messages);
    let requester = Arc::new(Requester::new(SourceId(0x0100)));
    let vector = routes.route(&requester).unwrap();
    let waits = || vectors.shared.lock()[&24].is_signalled();
    vector.set(message(0x41)).unwrap();
    signal(&*vector);
    assert!(!waits());
    vector.set(None).unwrap();
    signal(&*vector);
    assert!(waits() && vector.is_pending());
    *table.add.lock().unwrap() = Some(0x20);
    vectors.refresh();
    vector.set(message(0x41)).unwrap();
    vector.set(None).unwrap();
    assert!(!waits(), "it was delivered in between");
}
