// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The serial port by its registers.

use super::*;
use crate::testing::RecordingLine;

mod driver;

#[derive(Debug, Default)]
struct Watch(Mutex<Vec<u8>>);

impl OutputWatch for Watch {
    fn output(&self, bytes: &[u8]) {
        self.0.lock().unwrap().extend(bytes);
    }
}

struct Rig {
    serial: Arc<Serial>,
    line: Arc<RecordingLine>,
    watch: Arc<Watch>,
}

fn rig() -> Rig {
    let line = Arc::new(RecordingLine::default());
    let watch = Arc::new(Watch::default());
    let out = Box::new(std::io::sink());
    let serial = Serial::new(line.clone(), out, watch.clone()).unwrap();
    Rig {
        serial,
        line,
        watch,
    }
}

impl Rig {
    fn read(&self, offset: u64) -> u8 {
        let mut data = [0xff];
        self.serial.read(offset, &mut data);
        data[0]
    }

    fn write(&self, offset: u64, value: u8) {
        self.serial.write(offset, &[value]);
    }
}

#[test]
fn output_passes_the_watcher_in_order() {
    let rig = rig();
    for byte in *b"hello" {
        rig.write(0, byte);
    }
    assert_eq!(*rig.watch.0.lock().unwrap(), b"hello");
    assert_eq!(rig.read(5) & 0x60, 0x60);
    assert!(rig.serial.flush(Duration::from_secs(60)));
}

#[test]
fn transmitter_interrupt_is_a_pulse_when_enabled() {
    let rig = rig();
    rig.write(0, b'a');
    assert!(rig.line.levels().is_empty());
    rig.write(1, 0x02);
    assert_eq!(rig.line.levels(), [true, false]);
    assert_eq!(rig.read(2), 0xc2);
    assert_eq!(rig.read(2), 0xc1);
    rig.write(0, b'b');
    assert_eq!(rig.line.levels().len(), 4);
}

#[test]
fn input_interrupts_and_is_read() {
    let rig = rig();
    rig.write(1, 0x01);
    assert_eq!(rig.serial.enqueue_input(b"ok"), 2);
    assert_eq!(rig.line.levels(), [true, false]);
    assert_eq!(rig.read(5) & 0x11, 0x01);
    assert_eq!((rig.read(0), rig.read(0)), (b'o', b'k'));
    assert_eq!(rig.read(5) & 0x01, 0);
}

#[test]
fn input_beyond_the_fifo_waits_and_arrives_whole() {
    let rig = rig();
    let input: Vec<u8> = (0..=255).cycle().take(1000).collect();
    assert_eq!(rig.serial.enqueue_input(&input), 1000);
    let mut seen = Vec::new();
    while rig.read(5) & 1 != 0 {
        seen.push(rig.read(0));
    }
    assert_eq!(seen, input);
}

#[test]
fn input_beyond_the_limit_is_not_taken() {
    let rig = rig();
    let taken = rig.serial.enqueue_input(&[0; 5000]);
    assert_eq!(taken, 4096);
    assert_eq!(rig.serial.enqueue_input(&[0; 5000]), 64);
    assert_eq!(rig.serial.enqueue_input(&[0]), 0);
}

#[test]
fn break_arrives_between_the_bytes_around_it() {
    let rig = rig();
    rig.serial.enqueue_input(b"a");
    rig.serial.send_break();
    rig.serial.enqueue_input(b"h");
    assert_eq!((rig.read(5) & 0x11, rig.read(0)), (0x01, b'a'));
    assert_eq!(rig.read(5) & 0x11, 0x11);
    assert_eq!(rig.read(5) & 0x11, 0x01);
    assert_eq!(rig.read(0), 0);
    assert_eq!((rig.read(5) & 0x11, rig.read(0)), (0x01, b'h'));
}

#[test]
fn divisor_access_does_not_eat_input() {
    let rig = rig();
    rig.serial.send_break();
    rig.write(3, 0x83);
    rig.write(0, 0x01);
    assert_eq!(rig.read(0), 0x01);
    rig.write(3, 0x03);
    assert_eq!(rig.read(5) & 0x11, 0x11);
    assert!(rig.watch.0.lock().unwrap().is_empty());
}

#[test]
fn loop_back_returns_what_was_written_and_holds_input_back() {
    let rig = rig();
    rig.write(4, 0x10);
    rig.write(0, b'x');
    rig.serial.enqueue_input(b"y");
    assert_eq!(rig.read(0), b'x');
    assert_eq!(rig.read(5) & 1, 0);
    rig.write(4, 0x00);
    assert_eq!(rig.read(5) & 1, 1);
    assert_eq!(rig.read(0), b'y');
    assert!(rig.watch.0.lock().unwrap().is_empty());
}

#[test]
fn wide_access_is_ignored() {
    let rig = rig();
    rig.serial.write(0, b"ab");
    let mut data = [0xff; 2];
    rig.serial.read(5, &mut data);
    assert_eq!(data, [0xff; 2]);
    assert!(rig.watch.0.lock().unwrap().is_empty());
}

#[test]
fn reset_forgets_input_and_settings() {
    let rig = rig();
    rig.write(1, 0x01);
    rig.serial.enqueue_input(&[7; 100]);
    rig.serial.reset();
    assert_eq!((rig.read(1), rig.read(5) & 1), (0, 0));
}

#[test]
fn bytes_of_two_processors_all_pass_the_watcher() {
    let rig = rig();
    rig.write(1, 0x02);
    std::thread::scope(|scope| {
        for byte in [b'a', b'b'] {
            let rig = &rig;
            scope.spawn(move || {
                for _ in 0..500 {
                    rig.write(0, byte);
                    rig.read(2);
                }
            });
        }
    });
    assert_eq!(rig.watch.0.lock().unwrap().len(), 1000);
    let levels = rig.line.levels();
    assert!(levels.chunks(2).all(|pulse| pulse == [true, false]));
}

/// A line whose first rise makes another processor acknowledge the interrupt and cause the next one.
#[derive(Debug, Default)]
struct BusyLine {
    serial: std::sync::OnceLock<Arc<Serial>>,
    levels: Mutex<Vec<bool>>,
}

impl IrqLine for BusyLine {
    fn set_level(&self, asserted: bool) {
        let first = {
            let mut levels = self.levels.lock().unwrap();
            levels.push(asserted);
            levels.len() == 1
        };
        if let Some(serial) = self.serial.get().filter(|_| first) {
            serial.read(2, &mut [0]);
            serial.write(0, b"b");
        }
    }
}

#[test]
fn interrupt_during_a_pulse_gets_a_pulse_of_its_own() {
    let line = Arc::new(BusyLine::default());
    let watch = Arc::new(Watch::default());
    let serial = Serial::new(line.clone(), Box::new(std::io::sink()), watch.clone()).unwrap();
    line.serial.set(serial.clone()).unwrap();
    serial.write(1, &[0x02]);
    assert_eq!(*line.levels.lock().unwrap(), [true, false, true, false]);
    assert_eq!(*watch.0.lock().unwrap(), b"b");
}
