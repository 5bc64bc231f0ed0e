//! Reading records: ranged, merged, each into memory of its own.

use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::path::Path;
use object_store::{GetOptions, GetResultPayload};
use spill_core::{Pool, PoolBuf};

use crate::client::Client;
use crate::failure::Failure;
use crate::pack::HEADER;
use crate::retry::Tries;

/// No more bytes than this are asked for with one request, unless one record has more.
const LONGEST_READ: u64 = 8 << 20;

/// One request for records that lie near one another.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) object: u64,
    pub(crate) range: Range<u64>,
    /// Which of the records asked for it brings, by number, in the order in which they lie.
    pub(crate) records: Vec<usize>,
}

/// Puts records together that lie in one object with at most `gap` other bytes between them. A record is its object,
/// offset and length.
pub(crate) fn merged(records: &[(u64, u64, u64)], gap: u64) -> Vec<Reading> {
    let mut order: Vec<usize> = (0..records.len()).collect();
    order.sort_unstable_by_key(|&n| records[n]);
    let mut readings: Vec<Reading> = Vec::new();
    for n in order {
        let (object, offset, length) = records[n];
        let end = offset + length;
        match readings.last_mut() {
            Some(reading)
                if reading.object == object
                    && offset <= reading.range.end.saturating_add(gap)
                    && end.max(reading.range.end) - reading.range.start <= LONGEST_READ =>
            {
                reading.range.end = reading.range.end.max(end);
                reading.records.push(n);
            }
            _ => readings.push(Reading { object, range: offset..end, records: vec![n] }),
        }
    }
    readings
}

/// What a request brought.
pub(crate) struct Fetched {
    pub(crate) buffers: Vec<PoolBuf>,
    pub(crate) e_tag: Option<String>,
}

impl Client {
    /// Reads the records at `wants` (offset and length, in the order in which they lie) with one request for `range`,
    /// which covers them.
    pub(crate) async fn fetch(
        &self,
        path: &Path,
        range: &Range<u64>,
        wants: &[(u64, u64)],
        pool: &Pool,
    ) -> Result<Fetched, Failure> {
        self.run(Tries::Many, |_| self.fetch_once(path, range, wants, pool)).await
    }

    async fn fetch_once(
        &self,
        path: &Path,
        range: &Range<u64>,
        wants: &[(u64, u64)],
        pool: &Pool,
    ) -> Result<Fetched, Failure> {
        let _permit = self.permit().await?;
        self.counts.gets.fetch_add(1, Relaxed);
        let options = GetOptions { range: Some(range.clone().into()), ..GetOptions::default() };
        let answer = self.retry.bounded(self.store.objects.get_opts(path, options)).await?;
        if answer.range != *range {
            let found = &answer.range;
            return Err(Failure::transient(format!(
                "bytes {} to {} were asked for, {} to {} answered",
                range.start, range.end, found.start, found.end
            )));
        }
        let e_tag = answer.meta.e_tag.clone();
        let mut scatter = Scatter::new(range, wants, pool);
        // a file's own stream comes in pieces of a few KiB, each from another thread
        if matches!(answer.payload, GetResultPayload::File(..)) {
            scatter.put(&self.retry.bounded(answer.bytes()).await?)?;
        } else {
            let mut body = answer.into_stream();
            while let Some(piece) = self.retry.bounded(async { body.next().await.transpose() }).await? {
                scatter.put(&piece)?;
            }
        }
        Ok(Fetched { buffers: scatter.finish()?, e_tag })
    }
}

/// Copies a body that comes in pieces to where each part of it belongs.
struct Scatter<'a> {
    at: u64,
    end: u64,
    wants: &'a [(u64, u64)],
    buffers: Vec<PoolBuf>,
    /// The first record that is not complete.
    next: usize,
}

impl<'a> Scatter<'a> {
    fn new(range: &Range<u64>, wants: &'a [(u64, u64)], pool: &Pool) -> Self {
        let buffers = wants.iter().map(|(_, length)| pool.take(*length as usize, HEADER)).collect();
        Scatter { at: range.start, end: range.end, wants, buffers, next: 0 }
    }

    fn put(&mut self, piece: &Bytes) -> Result<(), Failure> {
        let end = self.at + piece.len() as u64;
        if end > self.end {
            return Err(Failure::transient("a body longer than was asked for"));
        }
        for n in self.next..self.wants.len() {
            let (offset, length) = self.wants[n];
            let (from, to) = (offset.max(self.at), (offset + length).min(end));
            if from < to {
                let source = (from - self.at) as usize..(to - self.at) as usize;
                let target = (from - offset) as usize..(to - offset) as usize;
                self.buffers[n][target].copy_from_slice(&piece[source]);
            }
            if offset + length <= end {
                self.next = n + 1;
            } else if offset >= end {
                break;
            }
        }
        self.at = end;
        Ok(())
    }

    fn finish(self) -> Result<Vec<PoolBuf>, Failure> {
        if self.at == self.end {
            return Ok(self.buffers);
        }
        Err(Failure::transient(format!("a body that ended {} bytes early", self.end - self.at)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn neighbours_are_read_together() {
        let records = [(1, 100, 10), (2, 0, 5), (1, 0, 50), (1, 50, 20), (1, 200, 10)];
        let readings = merged(&records, 30);
        assert_eq!(
            readings,
            [
                Reading { object: 1, range: 0..110, records: vec![2, 3, 0] },
                Reading { object: 1, range: 200..210, records: vec![4] },
                Reading { object: 2, range: 0..5, records: vec![1] },
            ]
        );
        let long = [(1, 0, LONGEST_READ), (1, LONGEST_READ, 1)];
        assert_eq!(merged(&long, 30).len(), 2, "not without bound");
    }

    proptest! {
        #[test]
        fn a_body_is_scattered_however_it_is_cut(
            lengths in prop::collection::vec((0..20_u64, 1..50_u64), 1..6),
            cuts in prop::collection::vec(1..40_usize, 1..30),
        ) {
            let pool = Pool::new(0);
            let mut at = 7;
            let wants: Vec<(u64, u64)> = lengths.iter().map(|(gap, length)| {
                let offset = at + gap;
                at = offset + length;
                (offset, *length)
            }).collect();
            let range = 7..at;
            let body: Vec<u8> = range.clone().map(|n| n as u8).collect();
            let mut scatter = Scatter::new(&range, &wants, &pool);
            let mut rest = body.as_slice();
            for cut in cuts.iter().cycle() {
                let (piece, tail) = rest.split_at(rest.len().min(*cut));
                scatter.put(&Bytes::copy_from_slice(piece)).unwrap();
                rest = tail;
                if rest.is_empty() { break; }
            }
            prop_assert!(scatter.put(&Bytes::from_static(b"x")).is_err());
            for (buffer, (offset, length)) in scatter.finish().unwrap().iter().zip(&wants) {
                let expected: Vec<u8> = (*offset..offset + length).map(|n| n as u8).collect();
                prop_assert_eq!(&buffer[..], &expected[..]);
            }
        }
    }

    #[test]
    fn a_body_that_ends_early_is_told() {
        let pool = Pool::new(0);
        let mut scatter = Scatter::new(&(0..10), &[(0, 10)], &pool);
        scatter.put(&Bytes::from_static(b"12345")).unwrap();
        assert_eq!(scatter.finish().unwrap_err(), Failure::transient("a body that ended 5 bytes early"));
    }
}
