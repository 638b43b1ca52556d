// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Checks a TCP connection with pseudo-random data, one direction a call.
//!
//! - `receive PORT MEBIBYTES SEED`: takes one connection and compares every byte with what it ought to be
//! - `send HOST:PORT MEBIBYTES SEED`: sends, then hears from the receiver which checksum arrived
//!
//! Both print `NETCHECK ok SUM`, the checksum in hexadecimal of what this end sent or received.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::pattern::{Random, Sum};

/// Bytes that are made, sent and compared at a time.
const CHUNK: usize = 64 << 10;

/// How long a receiver may take to appear, and either end to move.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `netcheck ARGUMENTS…`.
pub fn run(args: &[&str]) -> Result<()> {
    let &[action, place, size, seed] = args else {
        bail!("netcheck takes send or receive, a place, a size in MiB and a seed")
    };
    let chunks = size.parse::<usize>().context("the size")? * ((1 << 20) / CHUNK);
    let seed = seed.parse::<u64>().context("the seed")?;
    let sum = match action {
        "send" => send(place, chunks, seed)?,
        "receive" => receive(place.parse().context("the port")?, chunks, seed)?,
        _ => bail!("netcheck knows no '{action}'"),
    };
    println!("NETCHECK ok {sum:016x}");
    Ok(())
}

fn send(place: &str, chunks: usize, seed: u64) -> Result<u64> {
    let mut stream = connect(place)?;
    let mut random = Random::new(seed);
    let mut sum = Sum::new();
    let mut chunk = vec![0; CHUNK];
    for _ in 0..chunks {
        random.fill(&mut chunk);
        sum.add(&chunk);
        stream.write_all(&chunk).context("sending")?;
    }
    let mut theirs = [0; 8];
    stream
        .read_exact(&mut theirs)
        .context("waiting for the receiver's checksum")?;
    let theirs = u64::from_le_bytes(theirs);
    if theirs != sum.value() {
        bail!("{:016x} was sent, {theirs:016x} arrived", sum.value());
    }
    Ok(theirs)
}

/// Waits for the receiver to listen.
fn connect(place: &str) -> Result<TcpStream> {
    let began = Instant::now();
    loop {
        match TcpStream::connect(place) {
            Ok(stream) => return patient(stream),
            Err(error) if began.elapsed() > PATIENCE => {
                return Err(error).with_context(|| format!("connecting to {place}"));
            }
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn receive(port: u16, chunks: usize, seed: u64) -> Result<u64> {
    let listener = TcpListener::bind(("0.0.0.0", port)).context("listening")?;
    let (stream, _) = listener.accept().context("waiting for a connection")?;
    let mut stream = patient(stream)?;
    let mut random = Random::new(seed);
    let mut sum = Sum::new();
    let (mut chunk, mut expected) = (vec![0; CHUNK], vec![0; CHUNK]);
    for number in 0..chunks {
        stream
            .read_exact(&mut chunk)
            .with_context(|| format!("receiving chunk {number}"))?;
        random.fill(&mut expected);
        if chunk != expected {
            bail!("chunk {number} of {CHUNK} bytes is not what was sent");
        }
        sum.add(&chunk);
    }
    stream
        .write_all(&sum.value().to_le_bytes())
        .context("answering")?;
    Ok(sum.value())
}

fn patient(stream: TcpStream) -> Result<TcpStream> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A port that was free a moment ago.
    fn port() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    }

    #[test]
    fn send_and_receive_with_one_seed_agree_on_the_sum() {
        let port = port();
        let receiver = thread::spawn(move || receive(port, 3, 5).unwrap());
        let sent = send(&format!("127.0.0.1:{port}"), 3, 5).unwrap();
        assert_eq!(sent, receiver.join().unwrap());
    }

    #[test]
    fn receive_of_other_data_is_an_error_on_both_sides() {
        let port = port();
        let receiver = thread::spawn(move || receive(port, 1, 5));
        assert!(send(&format!("127.0.0.1:{port}"), 1, 6).is_err());
        let error = receiver.join().unwrap().unwrap_err().to_string();
        assert!(error.starts_with("chunk 0 "), "{error}");
    }
}
