use overspill::{BufferBuilder, Lru, MutableMapping};

#[test]
fn the_layers_need_no_feature() {
    let lru: Lru<u32, String> = BufferBuilder::new().target(1 << 20).alone().unwrap();
    lru.insert(1, "one".to_owned()).unwrap();
    assert_eq!(lru.get(&1).unwrap().as_deref(), Some("one"));
}
