// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Device-TLB invalidation: who hears of what, in which order, and what a device that fails does to the queue.

use super::*;
use crate::address::IovaRange;
use crate::ats::ResponseCode;

const FSTS: u64 = 0x34;
const IQERCD: u64 = 0xb0;
const WAIT: (u64, u64) = (0x0000_0002_0000_0025, 0x2000);

/// What a device heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Invalidate(DeviceSpaces, IovaRange),
    Response(PageResponse),
}

/// A device that answers as told, and notes what had been written to the status word by then.
#[derive(Debug)]
struct Device {
    heard: Mutex<Vec<(Heard, u32)>>,
    answer: Mutex<Completion>,
    ram: Arc<Ram>,
}

impl Device {
    fn hear(&self, heard: Heard) {
        let mut status = [0; 4];
        PhysMem::read(&*self.ram, GuestAddress(0x2000), &mut status).unwrap();
        self.heard
            .lock()
            .unwrap()
            .push((heard, u32::from_le_bytes(status)));
    }

    fn heard(&self) -> Vec<(Heard, u32)> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }

    fn answers(&self, answer: Completion) {
        *self.answer.lock().unwrap() = answer;
    }
}

impl AtsEndpoint for Device {
    fn invalidate(&self, spaces: DeviceSpaces, range: IovaRange) -> Completion {
        self.hear(Heard::Invalidate(spaces, range));
        *self.answer.lock().unwrap()
    }

    fn respond(&self, response: PageResponse) {
        self.hear(Heard::Response(response));
    }
}

fn device(bench: &Bench, source: u16) -> (Arc<Device>, Arc<Requester>) {
    let device = Arc::new(Device {
        heard: Mutex::default(),
        answer: Mutex::new(Completion::Completed),
        ram: Arc::clone(&bench.ram),
    });
    let requester = Arc::new(Requester::new(SourceId(source)));
    let endpoint: Arc<dyn AtsEndpoint> = Arc::clone(&device) as _;
    bench
        .unit
        .register_endpoint(Arc::clone(&requester), &endpoint);
    (device, requester)
}

fn page(start: u64) -> IovaRange {
    IovaRange::from_len(Iova(start), 0x1000).unwrap()
}

#[test]
fn invalidation_reaches_the_named_device_before_the_wait_completes() {
    let bench = Bench::with_wide_queue();
    let (device, _) = device(&bench, 0x18);
    let (other, _) = self::device(&bench, 0x20);
    bench.submit_wide(&[
        (0xe2, 0),
        (0x0000_0018_0000_0003, 0x5000),
        (0x0000_0007_0018_0008, 0x6000),
        (0x0000_0007_0018_0008, 0x7fff_ffff_ffff_f801),
        WAIT,
    ]);
    let pasid = DeviceSpaces::Pasid(Pasid::new(7).unwrap());
    assert_eq!(
        device.heard(),
        [
            (
                Heard::Invalidate(DeviceSpaces::WithoutPasid, page(0x5000)),
                0
            ),
            (Heard::Invalidate(pasid, page(0x6000)), 0),
            (
                Heard::Invalidate(DeviceSpaces::AllPasids, IovaRange::ALL),
                0
            ),
        ]
    );
    assert_eq!(other.heard(), []);
    assert_eq!(bench.memory32(0x2000), 2);
    assert_eq!((bench.r64(0x80), bench.r32(FSTS)), (0xa0, 0));
    let counters = bench.unit.counters();
    assert_eq!(counters.device_tlb_invalidations, 3);
    assert_eq!(counters.waits, 1);
}

#[test]
fn device_is_found_by_the_number_it_has_now() {
    let bench = Bench::with_wide_queue();
    let (device, requester) = device(&bench, 0x18);
    requester.set_source(SourceId(0x118));
    bench.submit_wide(&[(0x0000_0018_0000_0003, 0), WAIT]);
    assert_eq!(device.heard(), []);
    bench.submit_wide(&[(0x0000_0118_0000_0003, 0), WAIT]);
    assert_eq!(device.heard().len(), 1);
}

#[test]
fn device_that_is_absent_or_gone_completes_silently() {
    let bench = Bench::with_wide_queue();
    drop(device(&bench, 0x18));
    bench.submit_wide(&[
        (0x0000_0018_0000_0003, 0),
        (0x0000_0020_0000_0003, 0),
        (0x0000_0000_0020_0009, 0),
        WAIT,
    ]);
    assert_eq!((bench.r32(FSTS), bench.memory32(0x2000)), (0, 2));
}

#[test]
fn page_response_is_delivered_before_the_wait_completes() {
    let bench = Bench::with_wide_queue();
    let (device, _) = device(&bench, 0x18);
    bench.submit_wide(&[
        (0x000a_bcde_0018_1019, 0x28),
        (0x0000_0018_0000_0003, 0x5000),
        WAIT,
    ]);
    let response = PageResponse {
        source: SourceId(0x18),
        pasid: Pasid::new(0xa_bcde),
        group: 5,
        code: ResponseCode::InvalidRequest,
    };
    assert_eq!(
        device.heard(),
        [
            (
                Heard::Invalidate(DeviceSpaces::WithoutPasid, page(0x5000)),
                0
            ),
            (Heard::Response(response), 0)
        ]
    );
    assert_eq!(bench.unit.counters().page_responses, 1);
}

#[test]
fn time_out_aborts_the_wait_and_stops_the_queue() {
    let bench = Bench::with_wide_queue();
    bench.w32(0x38, 0);
    let (device, _) = device(&bench, 0x18);
    let (other, _) = self::device(&bench, 0x20);
    device.answers(Completion::TimedOut);
    bench.submit_wide(&[
        (0x0000_0018_0000_0003, 0x5000),
        (0x0000_0020_0000_0003, 0x5000),
        WAIT,
        (0xd2, 0),
        (0x0000_0003_0000_0025, 0x2004),
    ]);
    assert_eq!(bench.r32(FSTS), 0x40);
    assert_eq!(bench.r64(IQERCD), 0x18 << 32, "ITESID");
    assert_eq!(bench.messages().len(), 1);
    assert_eq!(other.heard().len(), 1, "the others are still told");
    assert_eq!(bench.memory32(0x2000), 0);
    assert_eq!(bench.r64(0x80), 0x60, "the wait is consumed, not done");
    assert_eq!(bench.memory32(0x2004), 0, "nothing more is fetched");
    assert_eq!(bench.unit.counters().waits_aborted, 1);
    assert_eq!(bench.unit.counters().device_tlb_time_outs, 1);
    // A tail is only recorded.
    bench.submit_wide(&[(0xd2, 0)]);
    assert_eq!((bench.r64(0x80), bench.r64(0x88)), (0x60, 0xc0));
    // Clearing ITE goes on behind the aborted wait, which stays undone.
    bench.w32(FSTS, 0x40);
    assert_eq!((bench.r32(FSTS), bench.r64(IQERCD)), (0, 0));
    assert_eq!((bench.r64(0x80), bench.memory32(0x2004)), (0xc0, 3));
    assert_eq!(bench.memory32(0x2000), 0);
    // Linux submits the same again.
    device.answers(Completion::Completed);
    bench.submit_wide(&[(0x0000_0018_0000_0003, 0x5000), WAIT]);
    assert_eq!(bench.memory32(0x2000), 2);
}

#[test]
fn device_that_was_late_is_asked_again_only_in_the_next_step() {
    let bench = Bench::with_wide_queue();
    let (device, _) = device(&bench, 0x18);
    device.answers(Completion::TimedOut);
    bench.submit_wide(&[(0x0000_0018_0000_0003, 0); 100]);
    assert_eq!(device.heard().len(), 1);
    device.answers(Completion::Completed);
    bench.w32(FSTS, 0x40);
    bench.submit_wide(&[(0x0000_0018_0000_0003, 0), (0x0000_0018_0000_0003, 0), WAIT]);
    assert_eq!(device.heard().len(), 2);
    assert_eq!(bench.memory32(0x2000), 2);
}

#[test]
fn wrong_answer_sets_ice_and_the_queue_goes_on() {
    let bench = Bench::with_wide_queue();
    bench.w32(0x38, 0);
    let (first, _) = device(&bench, 0x18);
    let (second, _) = device(&bench, 0x20);
    first.answers(Completion::Wrong);
    second.answers(Completion::Wrong);
    bench.submit_wide(&[(0x0000_0020_0000_0003, 0), (0x0000_0018_0000_0003, 0), WAIT]);
    assert_eq!(bench.r32(FSTS), 0x20);
    assert_eq!(bench.r64(IQERCD), 0x20 << 48, "ICESID, of the first");
    assert_eq!(bench.messages().len(), 1);
    assert_eq!((bench.r64(0x80), bench.memory32(0x2000)), (0x60, 2));
    // Another one while ICE is set changes nothing.
    bench.submit_wide(&[(0x0000_0018_0000_0003, 0)]);
    assert_eq!(bench.r64(IQERCD), 0x20 << 48);
    assert_eq!(bench.messages(), []);
    bench.w32(FSTS, 0x20);
    assert_eq!((bench.r32(FSTS), bench.r64(IQERCD)), (0, 0));
    assert_eq!(bench.unit.counters().device_tlb_errors, 2);
}

#[test]
fn time_out_and_wrong_answer_in_one_step_raise_one_event() {
    let bench = Bench::with_wide_queue();
    bench.w32(0x38, 0);
    let (late, _) = device(&bench, 0x18);
    let (wrong, _) = device(&bench, 0x20);
    late.answers(Completion::TimedOut);
    wrong.answers(Completion::Wrong);
    bench.submit_wide(&[
        (0x0000_0018_0000_0003, 0),
        (0x0000_0020_0000_0003, 0),
        (0x0f, 0),
    ]);
    assert_eq!(bench.r32(FSTS), 0x70);
    assert_eq!(bench.r64(IQERCD), 0x0020_0018_0000_0003);
    assert_eq!(bench.messages().len(), 1);
    assert_eq!(bench.r64(0x80), 0x40, "the head is at the unknown one");
    bench.w32(FSTS, 0x60);
    assert_eq!(bench.r64(IQERCD), 3);
    assert_eq!(bench.r64(0x80), 0x40, "IQE still stops the queue");
}

/// A fault that is recorded already holds the event back.
#[test]
fn time_out_while_a_fault_is_recorded_raises_no_event() {
    let bench = Bench::with_wide_queue();
    let (device, _) = device(&bench, 0x18);
    bench.w32(0x38, 0);
    bench.fault(0x10, 0x1000, Access::Read);
    bench.messages();
    device.answers(Completion::TimedOut);
    bench.submit_wide(&[(0x0000_0018_0000_0003, 0)]);
    assert_eq!((bench.r32(FSTS), bench.messages()), (0x42, vec![]));
}

/// What the device had cached may be in use until the sections that were open have ended.
#[test]
fn wait_completes_after_the_sections_that_the_device_had_open() {
    use std::sync::mpsc::channel;
    let bench = Bench::with_wide_queue();
    let (_device, requester) = device(&bench, 0x18);
    requester.set_bus_master(true);
    let space = bench
        .unit
        .dma_space(Arc::clone(&bench.ram), requester, None);
    let (opened, is_open) = channel();
    let (close, may_close) = channel::<()>();
    thread::scope(|scope| {
        let space = &space;
        scope.spawn(move || {
            let section = space.section();
            opened.send(()).unwrap();
            may_close.recv().unwrap();
            drop(section);
        });
        is_open.recv().unwrap();
        let submitter = scope.spawn(|| bench.submit_wide(&[(0x0000_0018_0000_0003, 0), WAIT]));
        while bench.r64(0x88) == 0 {
            thread::yield_now();
        }
        assert_eq!(bench.memory32(0x2000), 0);
        assert!(!submitter.is_finished());
        close.send(()).unwrap();
    });
    assert_eq!(bench.memory32(0x2000), 2);
}

#[test]
fn device_may_read_registers_while_it_is_asked() {
    #[derive(Debug)]
    struct Reader(Mutex<std::sync::Weak<Unit>>, AtomicUsize);
    impl AtsEndpoint for Reader {
        fn invalidate(&self, _: DeviceSpaces, _: IovaRange) -> Completion {
            let unit = self.0.lock().unwrap().upgrade().unwrap();
            let mut data = [0; 8];
            unit.read(0x88, &mut data);
            self.1.store(usize::from(data[0]), Ordering::SeqCst);
            Completion::Completed
        }
        fn respond(&self, _: PageResponse) {}
    }
    let bench = Bench::with_wide_queue();
    let reader = Arc::new(Reader(
        Mutex::new(Arc::downgrade(&bench.unit)),
        AtomicUsize::new(0),
    ));
    let endpoint: Arc<dyn AtsEndpoint> = Arc::clone(&reader) as _;
    let requester = Arc::new(Requester::new(SourceId(0x18)));
    bench.unit.register_endpoint(requester, &endpoint);
    bench.submit_wide(&[(0x0000_0018_0000_0003, 0)]);
    assert_eq!(reader.1.load(Ordering::SeqCst), 0x20);
}
