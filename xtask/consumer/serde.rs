use std::collections::BTreeMap;
use std::sync::Arc;

use overspill::{BufferBuilder, Frames, Func, Lru, MutableMapping, Serde};

#[test]
fn serde_brings_a_codec_for_types_of_ones_own() {
    let storage: Lru<u32, Frames> = BufferBuilder::new().alone().unwrap();
    let mapping = Func::new(Serde, storage);
    let value = Arc::new(BTreeMap::from([("one".to_owned(), vec![1.5_f64])]));
    mapping.insert(1, Arc::clone(&value)).unwrap();
    assert_eq!(mapping.get(&1).unwrap(), Some(value));
}
