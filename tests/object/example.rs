//! The example `tiers`.

use crate::tiers_example::run;

#[test]
fn the_example_runs_with_a_server_of_its_own_and_leaves_nothing() {
    let mut said = Vec::new();
    run(None, &mut said).unwrap();
    let said = String::from_utf8(said).unwrap();
    for line in [
        "RAM 16 MiB, disk 48 MiB, then s3://spilled/tiles",
        "second round over 300 tiles: 0 from the store",
        "1500 tiles verified",
        "the bucket holds 0 objects",
    ] {
        assert!(said.lines().any(|found| found == line), "{line}: {said}");
    }
}

#[test]
fn the_example_refuses_what_is_no_store() {
    let error = run(Some("s3://"), &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("s3://bucket/prefix"), "{error}");
}
