// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Devices at fixed ports: serial, clock, and the ways by which a guest ends its run.

use super::ioapic::Lines;
use crate::board::{Board, Reset};
use crate::console::ConsoleInput;
use crate::control::{Control, Ending, Request};
use crate::error::Error;
use crate::layout;
use devices::bus::BusDevice;
use devices::control::{MachineControl, MachineRequest};
use devices::debug_exit::DebugExit;
use devices::i8042::I8042;
use devices::power::{ResetControl, SleepRegisters};
use devices::pvpanic::Pvpanic;
use devices::rtc::{MemorySize, Rtc};
use devices::serial::{self, Serial};
use std::sync::Arc;
use std::time::Duration;

/// How long the end of a run waits for a reader of the console.
const OUTPUT_LIMIT: Duration = Duration::from_secs(2);

/// The i8042 takes the ports from its data port, 4 below its command port, on.
const I8042_DATA_PORT: u16 = layout::I8042_COMMAND_PORT - 4;
const I8042_PORTS: u64 = 5;

/// Puts the devices at fixed ports on the board, and the reset control register `reset` into its reset hooks.
///
/// # Errors
/// The host has no thread for the console's output.
pub fn wire(board: &mut Board, lines: &Lines) -> Result<Arc<ResetControl>, Error> {
    let serial = serial(board, lines)?;
    let control = Arc::clone(&board.control);
    let machine: Arc<dyn MachineControl> = Arc::new(Machine { control });
    let low = board.config.memory.size.min(layout::LOW_RAM_END);
    let rtc = Rtc::new(MemorySize {
        low,
        high: board.config.memory.size - low,
    });
    let devices: [(u16, u64, Arc<dyn BusDevice>); 6] = [
        (layout::SERIAL_PORT, serial::PORTS, Arc::clone(&serial) as _),
        (layout::RTC_PORT, 2, Arc::new(rtc)),
        (
            I8042_DATA_PORT,
            I8042_PORTS,
            I8042::new(Arc::clone(&machine)),
        ),
        (
            layout::DEBUG_EXIT_PORT,
            layout::DEBUG_EXIT_PORTS,
            DebugExit::new(Arc::clone(&machine)),
        ),
        (layout::PVPANIC_PORT, 1, Pvpanic::new(Arc::clone(&machine))),
        (
            layout::SLEEP_CONTROL_PORT,
            layout::SLEEP_CONTROL_PORTS,
            SleepRegisters::new(Arc::clone(&machine)),
        ),
    ];
    for (port, count, device) in devices {
        let inserted = board.ports.insert(u64::from(port), count, device);
        inserted.map_err(super::taken)?;
    }
    let reset = ResetControl::new(machine);
    board.resets.push(Arc::new(LegacyReset {
        serial,
        reset: Arc::clone(&reset),
    }));
    Ok(reset)
}

fn serial(board: &Board, lines: &Lines) -> Result<Arc<Serial>, Error> {
    let line = lines.source(layout::SERIAL_GSI);
    let watch = Arc::clone(&board.console);
    let serial = Serial::new(line, board.console.writer(), watch)
        .map_err(|e| Error::host("start a thread for the console's output", e))?;
    board
        .console
        .connect(Arc::new(Keyboard(Arc::clone(&serial))));
    Ok(serial)
}

/// What the user types.
#[derive(Debug)]
struct Keyboard(Arc<Serial>);

impl ConsoleInput for Keyboard {
    fn input(&self, bytes: &[u8]) -> usize {
        self.0.enqueue_input(bytes)
    }

    fn send_break(&self) {
        self.0.send_break();
    }
}

/// The machine as devices know it.
#[derive(Debug)]
struct Machine {
    control: Arc<Control>,
}

impl MachineControl for Machine {
    fn request(&self, what: MachineRequest) {
        self.control.request(match what {
            MachineRequest::PowerOff => Request::PowerOff,
            MachineRequest::Reset => Request::Reset,
            MachineRequest::DebugExit(value) => Request::End(Ending::DebugExit(value)),
            MachineRequest::GuestPanicked => Request::End(Ending::Panicked),
        });
    }
}

#[derive(Debug)]
struct LegacyReset {
    serial: Arc<Serial>,
    reset: Arc<ResetControl>,
}

impl Reset for LegacyReset {
    fn reset(&self) -> Result<(), Error> {
        self.serial.reset();
        self.reset.reset();
        Ok(())
    }

    fn stop(&self) {
        if !self.serial.flush(OUTPUT_LIMIT) {
            tracing::warn!("nobody reads the console: the last of its output is lost");
        }
    }
}
