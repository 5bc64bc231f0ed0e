use overspill::conformance::{Memory, Ready, contract};

#[test]
fn conformance_brings_the_suite() {
    contract::check_all(Memory::<u64, u64>::new, &Ready);
}
