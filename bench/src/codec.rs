//! A large value read back from a warm cache: viewed in place by `Rkyv`, beside made anew by `Serde`. Both come
//! from the same bytes in RAM, and both are then read through.

use overspill::{Archivable, Archive, Codec, Frames, Pool, Rkyv, Serde};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::harness::{Better, Row, Unit, pair, timed};

/// How often a value is decoded in one run.
const READS: u64 = 200;

/// Bytes of a value in RAM, about.
const SIZE: usize = 1 << 20;

/// A record of a usual kind: numbers and text.
#[derive(Serialize, Deserialize, rkyv::Archive, rkyv::Serialize)]
struct Reading {
    station: String,
    seconds: u64,
    degrees: f64,
    wind: Option<f32>,
}

pub fn run(rounds: usize) -> Vec<Row> {
    let records: Vec<Reading> = (0..SIZE as u64 / 64)
        .map(|n| Reading {
            station: format!("station-{:08}", n % 1000),
            seconds: 1_700_000_000 + n * 60,
            degrees: (n % 400) as f64 / 10.0,
            wind: (n % 3 > 0).then_some(n as f32),
        })
        .collect();
    let numbers: Vec<f64> = (0..SIZE / 8).map(|n| n as f64 / 3.0).collect();
    vec![
        compared(
            "records",
            &records,
            rounds,
            |v| v.iter().map(|r| r.seconds.to_native()).sum(),
            |v| v.iter().map(|r| r.seconds).sum(),
        ),
        compared(
            "numbers",
            &numbers,
            rounds,
            |v| v.iter().map(|n| n.to_native().to_bits()).fold(0, u64::wrapping_add),
            |v| v.iter().map(|n| n.to_bits()).fold(0, u64::wrapping_add),
        ),
    ]
}

/// Decodes `value` and reads it through with `ours` and `peer`, which must say the same.
fn compared<T>(
    kind: &str,
    value: &T,
    rounds: usize,
    ours: fn(&T::Archived) -> u64,
    peer: fn(&T) -> u64,
) -> Row
where
    T: Archivable + Serialize + DeserializeOwned,
{
    let archived = aligned(Rkyv.encode(&Archive::new(value).unwrap()).unwrap());
    let encoded = aligned(Serde.encode(value).unwrap());
    let expected = peer(value);
    pair(
        &format!("read back {} KiB of {kind} from a warm cache", archived.byte_len() >> 10),
        Unit::NanosEach(READS),
        Some((Better::MoreSpeed, 5.0)),
        rounds,
        || {
            timed(|| {
                for _ in 0..READS {
                    let view: Archive<T> = Rkyv.decode(archived.clone()).unwrap();
                    assert_eq!(ours(view.get()), expected);
                }
            })
        },
        || {
            timed(|| {
                for _ in 0..READS {
                    let made: T = Serde.decode(encoded.clone()).unwrap();
                    assert_eq!(peer(&made), expected);
                }
            })
        },
    )
}

/// The frame as storage gives it: in a buffer of a pool, on the frames' alignment.
fn aligned(frames: Frames) -> Frames {
    let bytes = frames.into_single().unwrap();
    let mut memory = Pool::new(0).take(bytes.len(), 0);
    memory.copy_from_slice(&bytes);
    memory.freeze().into()
}
