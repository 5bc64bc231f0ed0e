//! What the one lock guards: the index, the stage, and what lives in each object.
//!
//! Nothing here makes a request. Objects in which nothing lives any more are collected in `trash`.

use std::sync::Arc;

use hashbrown::HashMap;
use spill_core::{Error, Frames, Key, Result, SpilledSize};

use crate::index::{Index, Locator, Place};
use crate::pack::Shape;
use crate::stage::{Job, Limits, Stage, Staged};

/// What is known of an object.
struct Object {
    bytes: u64,
    /// Bytes of the records that keys point to, and how many they are.
    live: u64,
    count: u32,
    /// Positions in the index of what was put in it. Some point elsewhere by now.
    members: Vec<u32>,
    e_tag: Option<Arc<str>>,
    /// A record in it could not be read, so it is not compacted.
    stuck: bool,
}

/// A value as a reader finds it.
pub(crate) enum Found {
    Staged(Frames),
    Stored(Stored),
}

/// Where a value is in storage.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) object: u64,
    pub(crate) offset: u32,
    pub(crate) checksum: u32,
    pub(crate) length: u64,
    pub(crate) e_tag: Option<Arc<str>>,
}

/// What an upload made.
pub(crate) struct Made {
    pub(crate) bytes: u64,
    pub(crate) e_tag: Option<String>,
    /// Offset and checksum of each value, in the order of the pack.
    pub(crate) records: Vec<Option<(u32, u32)>>,
}

/// A record to be moved out of an object.
pub(crate) struct Move {
    pub(crate) position: u32,
    pub(crate) locator: Locator,
    pub(crate) stored: Stored,
}

/// What a change left over, to be dropped without the lock: dropping a key or a value may run anybody's code.
pub(crate) struct Leftover<K> {
    _key: Option<K>,
    _frames: Option<Frames>,
}

/// What staging a value asks for.
pub(crate) struct Accepted<K> {
    /// The upload that begins now.
    pub(crate) job: Option<Job>,
    /// The pack that begins to fill, whose age counts from now.
    pub(crate) opened: Option<u64>,
    _leftover: Leftover<K>,
}

/// What makes inserts wait, and compaction begin.
#[derive(Clone, Copy, Debug)]
struct Garbage {
    bytes: u64,
    live: u64,
}

pub(crate) struct State<K> {
    index: Index<K>,
    pub(crate) stage: Stage,
    objects: HashMap<u64, Object>,
    /// Sum of the weights of all keys. Each is a caller's word, so the sum is wider.
    weight: u128,
    /// Sum of the record lengths of all keys.
    length: u64,
    /// Bytes of all objects, and of what lives in them.
    stored: u64,
    live: u64,
    /// Dead objects and their bytes, to be deleted.
    pub(crate) trash: Vec<(u64, u64)>,
    /// Bytes of the trash, of what is being deleted included.
    trash_bytes: u64,
    pack_bytes: u64,
    pub(crate) sweeping: bool,
    pub(crate) compacting: bool,
    /// Uploads that failed, and why the last one did.
    pub(crate) failures: u64,
    pub(crate) last_error: Option<Error>,
    /// The upload that ended last failed.
    pub(crate) refuses: bool,
    pub(crate) closed: bool,
}

impl<K: Key> State<K> {
    pub(crate) fn new(limits: Limits) -> Self {
        State {
            index: Index::new(),
            stage: Stage::new(limits),
            objects: HashMap::new(),
            weight: 0,
            length: 0,
            stored: 0,
            live: 0,
            trash: Vec::new(),
            trash_bytes: 0,
            pack_bytes: limits.pack,
            sweeping: false,
            compacting: false,
            failures: 0,
            last_error: None,
            refuses: false,
            closed: false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn keys(&self) -> Vec<K> {
        self.index.keys()
    }

    pub(crate) fn spilled(&self) -> SpilledSize {
        SpilledSize { memory: u64::try_from(self.weight).unwrap_or(u64::MAX), disk: self.length }
    }

    /// Bytes that the objects take, those not deleted yet included.
    pub(crate) fn physical(&self) -> u64 {
        self.stored + self.trash_bytes
    }

    pub(crate) fn locator(&self, key: &K) -> Option<Locator> {
        self.index.locator(self.index.find(key)?)
    }

    pub(crate) fn find(&self, key: &K) -> Option<Found> {
        let locator = self.locator(key)?;
        match locator.place {
            Place::Staged { pack, slot } => self.stage.get(pack, slot).cloned().map(Found::Staged),
            Place::Stored { .. } => self.stored_at(&locator).map(Found::Stored),
        }
    }

    fn stored_at(&self, locator: &Locator) -> Option<Stored> {
        let Place::Stored { object, offset, checksum } = locator.place else { return None };
        let e_tag = self.objects.get(&object).and_then(|object| object.e_tag.clone());
        Some(Stored { object, offset, checksum, length: locator.length, e_tag })
    }

    /// Whether `key` is stored at this place still.
    pub(crate) fn is_at(&self, key: &K, stored: &Stored) -> bool {
        let place = Place::Stored { object: stored.object, offset: stored.offset, checksum: stored.checksum };
        self.locator(key).is_some_and(|locator| locator.place == place)
    }

    /// Stages a value, for which there must be room.
    ///
    /// # Errors
    /// When the index is full; nothing changed.
    pub(crate) fn stage(&mut self, key: K, frames: Frames, shape: Shape) -> Result<Accepted<K>> {
        let weight = frames.weight();
        let found = self.index.find(&key);
        let at = match found {
            Some(at) => at,
            None => self.index.next_position()?,
        };
        let replaced = found.and_then(|at| self.release(at));
        let (place, job) = self.stage.push(Staged { frames, shape }, at);
        let opened = place.first.then_some(place.pack);
        let place = Place::Staged { pack: place.pack, slot: place.slot };
        let locator = Locator { weight, length: shape.length(), place };
        self.weight += u128::from(weight);
        self.length += locator.length;
        let key = if found.is_some() {
            self.index.set(at, locator);
            Some(key)
        } else {
            self.index.push(key, at, locator);
            None
        };
        Ok(Accepted { job, opened, _leftover: Leftover { _key: key, _frames: replaced } })
    }

    /// Stages a value again that was read for compaction, for which there must be room. `None` when its key was
    /// written meanwhile.
    pub(crate) fn restage(&mut self, moved: &Move, frames: Frames, shape: Shape) -> Option<Accepted<K>> {
        if self.index.locator(moved.position) != Some(moved.locator) {
            return None;
        }
        self.leave(&moved.locator);
        let (place, job) = self.stage.push(Staged { frames, shape }, moved.position);
        let opened = place.first.then_some(place.pack);
        let place = Place::Staged { pack: place.pack, slot: place.slot };
        self.index.set(moved.position, Locator { place, ..moved.locator });
        Some(Accepted { job, opened, _leftover: Leftover { _key: None, _frames: None } })
    }

    /// Gives up what the entry at this position had, which is to be set anew or removed.
    fn release(&mut self, at: u32) -> Option<Frames> {
        let locator = self.index.locator(at)?;
        self.weight -= u128::from(locator.weight);
        self.length -= locator.length;
        self.leave(&locator)
    }

    /// A value is not at this place any more.
    fn leave(&mut self, locator: &Locator) -> Option<Frames> {
        match locator.place {
            Place::Staged { pack, slot } => self.stage.remove(pack, slot),
            Place::Stored { object: number, .. } => {
                if let Some(object) = self.objects.get_mut(&number) {
                    object.live -= locator.length;
                    object.count -= 1;
                    self.live -= locator.length;
                    if object.count == 0 {
                        self.discard(number);
                    }
                }
                None
            }
        }
    }

    fn discard(&mut self, number: u64) {
        if let Some(object) = self.objects.remove(&number) {
            self.stored -= object.bytes;
            self.trash_bytes += object.bytes;
            self.trash.push((number, object.bytes));
        }
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<Leftover<K>> {
        let at = self.index.find(key)?;
        let frames = self.release(at);
        let (key, _) = self.index.remove(at)?;
        Some(Leftover { _key: Some(key), _frames: frames })
    }

    /// An upload is done: its values that still live are in the object now. What the upload held is given back, to
    /// be dropped without the lock.
    pub(crate) fn uploaded(&mut self, number: u64, made: Made) -> Option<impl Send + use<K>> {
        let upload = self.stage.done(number)?;
        self.refuses = false;
        let mut object = Object {
            bytes: made.bytes,
            live: 0,
            count: 0,
            members: Vec::new(),
            e_tag: made.e_tag.map(Into::into),
            stuck: false,
        };
        for (position, record) in upload.positions().zip(&made.records) {
            let (Some(at), Some((offset, checksum))) = (position, record) else { continue };
            let Some(locator) = self.index.locator(at) else { continue };
            let place = Place::Stored { object: number, offset: *offset, checksum: *checksum };
            self.index.set(at, Locator { place, ..locator });
            object.live += locator.length;
            object.count += 1;
            object.members.push(at);
        }
        self.stored += object.bytes;
        self.live += object.live;
        let empty = object.count == 0;
        self.objects.insert(number, object);
        if empty {
            self.discard(number);
        }
        Some(upload.values)
    }

    /// Dead bytes that compaction can win, with what lives beside them. Objects that cannot be compacted count as
    /// alive.
    fn garbage(&self) -> Garbage {
        let stuck = |object: &&Object| object.stuck;
        let lost: u64 = self.objects.values().filter(stuck).map(|object| object.bytes - object.live).sum();
        Garbage { bytes: self.stored - self.live - lost, live: self.live + lost }
    }

    /// Whether compaction is due: dead bytes are more than half the live ones, and a pack.
    pub(crate) fn wants_compaction(&self) -> bool {
        let dead = self.stored - self.live;
        if dead <= self.live / 2 + self.pack_bytes {
            return false;
        }
        let garbage = self.garbage();
        garbage.bytes > garbage.live / 2 + self.pack_bytes
    }

    /// Whether inserts wait for compaction or deletion: the objects take more than twice what lives in them, and two
    /// packs.
    pub(crate) fn is_overfull(&self) -> bool {
        let dead = self.stored - self.live + self.trash_bytes;
        if !(self.sweeping || self.compacting) || dead <= self.live + 2 * self.pack_bytes {
            return false;
        }
        let garbage = self.garbage();
        garbage.bytes + self.trash_bytes > garbage.live + 2 * self.pack_bytes
    }

    /// What lives in the object that has the least alive, for its size.
    pub(crate) fn emptiest(&self) -> Option<(u64, Vec<Move>)> {
        let share = |object: &Object| object.live as f64 / object.bytes as f64;
        let candidates =
            self.objects.iter().filter(|(_, object)| !object.stuck && object.live < object.bytes);
        let (&number, object) = candidates.min_by(|a, b| share(a.1).total_cmp(&share(b.1)))?;
        let mut moves: Vec<Move> = object
            .members
            .iter()
            .filter_map(|&position| {
                let locator = self.index.locator(position)?;
                let stored = self.stored_at(&locator).filter(|stored| stored.object == number)?;
                Some(Move { position, locator, stored })
            })
            .collect();
        // a position that was used again may be listed twice
        moves.sort_unstable_by_key(|moved| moved.stored.offset);
        moves.dedup_by_key(|moved| moved.stored.offset);
        Some((number, moves))
    }

    pub(crate) fn stick(&mut self, number: u64) {
        if let Some(object) = self.objects.get_mut(&number) {
            object.stuck = true;
        }
    }

    /// These objects are gone.
    pub(crate) fn deleted(&mut self, objects: &[(u64, u64)]) {
        self.trash_bytes -= objects.iter().map(|(_, bytes)| bytes).sum::<u64>();
    }

    /// Forgets everything and is closed. What is given back is to be dropped without the lock.
    pub(crate) fn close(&mut self, limits: Limits) -> Self {
        let closed = State { closed: true, ..State::new(limits) };
        std::mem::replace(self, closed)
    }
}
