//! Storage that costs nothing: it keeps frames.

use overspill::{Frames, MutableMapping, Result, Usage};
use parking_lot::Mutex;

/// Values by small numbers.
#[derive(Default)]
pub struct Shelf(Mutex<Vec<Option<Frames>>>);

impl MutableMapping<u64, Frames> for Shelf {
    fn get(&self, key: &u64) -> Result<Option<Frames>> {
        Ok(self.0.lock().get(*key as usize).cloned().flatten())
    }
    fn insert(&self, key: u64, value: Frames) -> Result<()> {
        let mut list = self.0.lock();
        if list.len() <= key as usize {
            list.resize(key as usize + 1, None);
        }
        list[key as usize] = Some(value);
        Ok(())
    }
    fn remove(&self, key: &u64) -> Result<bool> {
        Ok(self.take(key)?.is_some())
    }
    fn take(&self, key: &u64) -> Result<Option<Frames>> {
        Ok(self.0.lock().get_mut(*key as usize).and_then(Option::take))
    }
    fn contains_key(&self, key: &u64) -> bool {
        self.0.lock().get(*key as usize).is_some_and(Option::is_some)
    }
    fn len(&self) -> usize {
        self.0.lock().iter().flatten().count()
    }
    fn for_each_key(&self, f: &mut dyn FnMut(&u64)) {
        let count = self.0.lock().len() as u64;
        (0..count).filter(|key| self.contains_key(key)).for_each(|key| f(&key));
    }
    fn usage(&self) -> Usage {
        let list = self.0.lock();
        let mut usage = Usage { count: list.iter().flatten().count(), ..Usage::default() };
        usage.spilled.disk = list.iter().flatten().map(Frames::byte_len).sum();
        usage
    }
}
