// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `blktime DEVICE WORK COUNT`: how long reads of a block device take, past the page cache.
//!
//! | WORK | |
//! |---|---|
//! | small | 4 KiB into one page |
//! | exits | the same, with an access to an I/O port of the monitor's before it and another one behind it |
//! | contiguous | 1 MiB into a huge page |
//! | scattered | 1 MiB into 256 pages, none of which is next to another |
//!
//! It prints `BLKTIME WORK NANOSECONDS`, which a twentieth of COUNT reads is quicker than: a read that was disturbed is only ever
//! longer. Some reads before do not count.

use std::fs::{File, OpenOptions};
use std::io::{IoSliceMut, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rustix::fs::OFlags;
use rustix::io::preadv;

use crate::memory::{Memory, PAGE};

const MIB: usize = 1 << 20;

/// Reads that do not count.
const WARM: usize = 10;

/// Reads go around in so much of the device.
const SPAN: usize = 64 * MIB;

/// The line status register of the first serial port. To read it changes nothing but flags of errors that were received.
const LINE_STATUS: u64 = 0x3fd;

/// Pages from one page of a scattered buffer to the next.
const STRIDE: usize = 16;

/// Runs `blktime ARGUMENTS…`.
pub fn run(args: &[&str]) -> Result<()> {
    let [path, work, count] = *args else {
        bail!("blktime takes a device, what to do and how often")
    };
    let direct = i32::try_from(OFlags::DIRECT.bits())?;
    let device = OpenOptions::new()
        .read(true)
        .custom_flags(direct)
        .open(path);
    let mut device = device.with_context(|| format!("opening {path}"))?;
    let mut read = reader(work)?;
    let mut times = Vec::new();
    for number in 0..WARM + count.parse::<usize>()? {
        let began = Instant::now();
        read(&mut device, number)?;
        if number >= WARM {
            times.push(began.elapsed().as_nanos());
        }
    }
    times.sort_unstable();
    let time = times.get(times.len() / 20).context("no reads")?;
    println!("BLKTIME {work} {time}");
    Ok(())
}

/// Reads the piece of the device with this number.
type Reader = Box<dyn FnMut(&mut File, usize) -> Result<()>>;

fn reader(work: &str) -> Result<Reader> {
    Ok(match work {
        "small" => into_one(Memory::new(PAGE)?, PAGE),
        "exits" => between_exits(into_one(Memory::new(PAGE)?, PAGE))?,
        "contiguous" => into_one(Memory::huge(2 * MIB)?, MIB),
        "scattered" => into_many(vec![0; (MIB / PAGE * STRIDE + 1) * PAGE]),
        _ => bail!("blktime knows no '{work}'"),
    })
}

/// Where in the device the piece with this number is.
fn place(number: usize, bytes: usize) -> u64 {
    // Not in sequence: nobody shall read ahead. The factor has no divisor in common with the number of pieces.
    let piece = number * 37 % (SPAN / bytes);
    (piece * bytes) as u64
}

fn into_one(memory: Memory, bytes: usize) -> Reader {
    Box::new(move |device, number| {
        device.seek(SeekFrom::Start(place(number, bytes)))?;
        memory.read_from(device, bytes)
    })
}

fn between_exits(mut read: Reader) -> Result<Reader> {
    let ports = File::open("/dev/port").context("opening /dev/port")?;
    Ok(Box::new(move |device, number| {
        ports.read_exact_at(&mut [0], LINE_STATUS)?;
        read(device, number)?;
        Ok(ports.read_exact_at(&mut [0], LINE_STATUS)?)
    }))
}

fn into_many(mut buffer: Vec<u8>) -> Reader {
    let first = buffer.as_ptr().align_offset(PAGE);
    Box::new(move |device, number| {
        let pages = buffer[first..].chunks_exact_mut(PAGE).step_by(STRIDE);
        let mut pages: Vec<IoSliceMut<'_>> = pages.take(MIB / PAGE).map(IoSliceMut::new).collect();
        match preadv(&*device, &mut pages, place(number, MIB))? {
            MIB => Ok(()),
            read => bail!("only {read} bytes were read"),
        }
    })
}
