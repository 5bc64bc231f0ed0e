use overspill::{MutableMapping, object::Store, presets};

#[test]
fn object_brings_chains_that_spill_to_object_stores() {
    let store = Store::open("memory:///").unwrap();
    let map = presets::objects::<u32, String>(1 << 20, store).unwrap();
    for n in 0..64 {
        map.insert(n, n.to_string().repeat(1 << 16)).unwrap();
    }
    map.flush().unwrap();
    assert!(map.usage().spilled.disk > 1 << 20);
    assert_eq!(map.get(&7).unwrap(), Some("7".repeat(1 << 16)));
    map.close().unwrap();
}
