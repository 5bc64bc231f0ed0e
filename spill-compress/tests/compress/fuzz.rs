//! A loop of damage: values that the layer wrote, changed in ways that a disk, a bug or an enemy could, and read
//! by the layer. It counts what reading takes, which must be linear in what was stored plus what is allowed.
//!
//! A few seconds at a time; a minute and another seed with `OVERSPILL_TEST_LONG=1`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use spill_compress::{Compress, Compression, NoCompression};
use spill_core::{Clock, ErrorKind, Frames, ManualClock, MutableMapping, Pool, SystemClock};

use crate::memory::Memory;
use crate::samples::{noise, ramp, random, sensor};

/// What readers allow, in bytes: less than many of the values take, so that the bound is met often.
const BOUND: u64 = 72 << 10;

/// A block's scratch and the buffer to shuffle in, beside the value itself; pool buffers may be longer by three sixteenths.
const SCRATCH: u64 = 2 << 20;

const SETTINGS: [&str; 7] =
    ["none", "lz4", "zstd:1", "lz4+shuffle4", "lz4+shuffle8", "zstd:3+shuffle4", "adaptive"];

/// Decisions, the same for the same seed.
struct Dice<I>(I);

impl<I: Iterator<Item = u64>> Dice<I> {
    fn below(&mut self, limit: usize) -> usize {
        (self.0.next().unwrap() >> 16) as usize % limit.max(1)
    }
}

/// Stored forms to begin with: each setting, of values that shrink much, a little and not at all.
fn seeds() -> Vec<Vec<Vec<u8>>> {
    let values = [
        Frames::from(Bytes::from(vec![0; 64 << 10])),
        // Long enough to be stored lane by lane: some are noise, some shrink, some are all alike.
        Frames::from(sensor(64 << 10, 4)),
        Frames::from(ramp(70_000, 1000)),
        Frames::from(ramp(20_000, 5)),
        Frames::from_iter([Bytes::from("text ".repeat(3000)), noise(500, 1), Bytes::new()]),
        Frames::from(noise(3000, 2)),
        Frames::from(vec![]),
        Frames::from(Bytes::from(vec![1; 700 << 10])),
        // Too long together.
        Frames::from(vec![Bytes::from(vec![2; 40 << 10]); 2]),
    ];
    let mut stored = Vec::new();
    for name in SETTINGS {
        let mapping = Compress::new(name.parse::<Compression>().unwrap(), Memory::default());
        for value in &values {
            mapping.insert(1, value.clone()).unwrap();
            let frames = mapping.inner().get(&1).unwrap().unwrap();
            stored.push(frames.iter().map(|frame| frame.to_vec()).collect());
        }
    }
    stored
}

/// Changes a stored value in one of the ways that there are.
fn damage(stored: &mut Vec<Vec<u8>>, others: &[Vec<Vec<u8>>], dice: &mut Dice<impl Iterator<Item = u64>>) {
    let which = if dice.below(2) == 0 { 0 } else { dice.below(stored.len()) };
    let Some(frame) = stored.get_mut(which) else {
        stored.push(noise(dice.below(100), 3).to_vec());
        return;
    };
    let at = dice.below(frame.len());
    match dice.below(9) {
        0 if !frame.is_empty() => frame[at] ^= 1 << dice.below(8),
        1 if !frame.is_empty() => frame[at] = [0, 1, 0x7F, 0x80, 0xFF][dice.below(5)],
        2 => frame.truncate(at),
        3 => frame.insert(at, dice.below(256) as u8),
        4 => frame.extend([0xFF; 9]),
        5 => _ = stored.remove(which),
        6 => {
            let copy = frame.clone();
            stored.insert(which, copy);
        }
        7 => {
            let other = &others[dice.below(others.len())];
            if let Some(foreign) = other.get(dice.below(other.len())) {
                *frame = foreign.clone();
            }
        }
        // A length of anything up to 64 bits where there may be one.
        _ => {
            let mut length = Vec::new();
            let mut rest = dice.0.next().unwrap() >> dice.below(64);
            while rest >= 0x80 {
                length.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            length.push(rest as u8);
            frame.splice(at..(at + 1).min(frame.len()), length);
        }
    }
}

#[test]
fn whatever_is_stored_reads_as_a_value_within_the_bound_or_a_typed_error_at_linear_cost() {
    let long = std::env::var_os("OVERSPILL_TEST_LONG").is_some();
    let clock = SystemClock::new();
    let seed = if long { u64::from(std::process::id()) } else { 1 };
    println!("seed {seed}");
    let mut dice = Dice(random(seed));
    let seeds = seeds();
    let (mut read, mut corrupt, mut refused, mut rounds) = (0, 0, 0, 0_u64);
    while rounds < 4000 || (long && clock.now() < Duration::from_secs(60)) {
        rounds += 1;
        let mut stored = seeds[dice.below(seeds.len())].clone();
        for _ in 0..dice.below(4) {
            damage(&mut stored, &seeds, &mut dice);
        }
        let bytes: u64 = stored.iter().map(|frame| frame.len() as u64).sum();
        let pool = Pool::new(u64::MAX);
        let mapping = Compress::new(NoCompression, Memory::default())
            .with_pool(pool.clone())
            .with_threads(1)
            .with_max_value_bytes(BOUND);
        mapping.inner().insert(1, stored.into_iter().map(Bytes::from).collect()).unwrap();
        match mapping.get(&1) {
            Ok(value) => {
                assert!(value.unwrap().byte_len() <= BOUND);
                read += 1;
            }
            Err(error) => match error.kind() {
                ErrorKind::Corrupt { .. } => corrupt += 1,
                ErrorKind::TooLarge { limit, .. } => {
                    assert_eq!(*limit, BOUND);
                    refused += 1;
                }
                ErrorKind::Codec { .. } => {}
                _ => panic!("{error}"),
            },
        }
        // All that reading took is idle again: the value's own memory and that of blocks.
        let taken = pool.idle_bytes();
        assert!(taken <= 2 * bytes + 2 * BOUND + SCRATCH, "{taken} bytes taken to read {bytes}");
    }
    println!("{rounds} rounds: {read} read, {corrupt} corrupt, {refused} too large");
    assert!(read > rounds / 20 && corrupt > rounds / 20 && refused > rounds / 20, "each outcome is met");
}

#[test]
fn a_bomb_of_each_kind_takes_no_more_than_a_reader_allows() {
    // 64 MiB of zeros in a few hundred bytes or KiB, whatever they were shuffled by, whole or in many frames.
    let bombs =
        [Frames::from(Bytes::from(vec![0; 64 << 20])), Frames::from(vec![Bytes::from(vec![0; 1 << 20]); 64])];
    for name in ["lz4", "lz4:100", "zstd:1", "zstd:-7", "lz4+shuffle2", "zstd:1+shuffle16", "adaptive"] {
        for bomb in &bombs {
            let storage = Memory::default();
            let writer = Compress::new(name.parse::<Compression>().unwrap(), storage.clone());
            // A clock that stands still: no choice depends on how busy this machine is.
            writer.with_clock(Arc::new(ManualClock::new())).insert(1, bomb.clone()).unwrap();
            let stored = storage.get(&1).unwrap().unwrap().byte_len();
            assert!(stored < 1 << 20, "{name}: {stored}");
            let pool = Pool::new(u64::MAX);
            let reader = Compress::new(NoCompression, storage)
                .with_pool(pool.clone())
                .with_max_value_bytes((64 << 20) - 1);
            let error = reader.get(&1).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::TooLarge { .. }), "{name}: {error}");
            assert_eq!(pool.idle_bytes(), 0, "{name}: refused before memory was taken");
        }
    }
}
