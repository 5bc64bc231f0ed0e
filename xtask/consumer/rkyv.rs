use overspill::{Archive, BufferBuilder, Frames, Func, Lru, MutableMapping, Rkyv};

#[test]
fn rkyv_brings_values_that_are_used_where_they_were_read() {
    let storage: Lru<u32, Frames> = BufferBuilder::new().alone().unwrap();
    let mapping = Func::new(Rkyv, storage);
    let value = Archive::new(&vec!["one".to_owned(), "two".to_owned()]).unwrap();
    mapping.insert(1, value).unwrap();
    let back: Archive<Vec<String>> = mapping.get(&1).unwrap().unwrap();
    assert_eq!(back.get()[1], "two");
}
