//! Names of files.
//!
//! | name | what it is |
//! |---|---|
//! | `key.<key>.<generation>.spill` | the value of a key whose quoted bytes are short |
//! | `hash.<hash>.<generation>.spill` | the value of another key; the hash is of its bytes, 16 hexadecimal digits |
//! | `part.<generation>.spill` | a value that is being written |
//!
//! A key is quoted as in a URL: of its bytes the letters `a` to `z`, digits, `-` and `_` stay, and every other
//! one is `%` and two hexadecimal digits. Capitals are quoted too, since some file systems do not tell them from
//! small letters. The longest name has 143 bytes, the least that common file systems take.
//!
//! A generation is a number that no other value of the directory ever had, and a later value has a greater one.
//! So two keys with one hash have two names; which key a file belongs to is told by its header.

use std::ffi::OsStr;
use std::fmt::Write;

/// The lock file of a directory that is in use.
pub(super) const LOCK: &str = "lock.spill";

/// The longest quoted key in a name, in bytes.
const LONGEST_QUOTED: usize = 112;

/// More than generations can ever be.
pub(super) const UNREACHED: u64 = 1 << 63;

/// The name of the file of a key's value.
pub(crate) fn of_value(key: &[u8], generation: u64) -> String {
    match quoted(key) {
        Some(key) => format!("key.{key}.{generation}.spill"),
        None => format!("hash.{:016x}.{generation}.spill", fnv1a(key)),
    }
}

/// The name of the file that a value is written to.
pub(super) fn of_part(generation: u64) -> String {
    format!("part.{generation}.spill")
}

/// What a file in the directory is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A value of this generation, if its header says so too.
    Value(u64),
    /// What was being written when a process died.
    Part(u64),
    /// The lock file.
    Lock,
    /// Somebody else's.
    Foreign,
}

pub(crate) fn kind(name: &OsStr) -> Kind {
    let name = name.to_str().unwrap_or_default();
    let parts: Vec<&str> = name.split('.').collect();
    match *parts.as_slice() {
        ["key" | "hash", _, generation, "spill"] => number(generation).map_or(Kind::Foreign, Kind::Value),
        ["part", generation, "spill"] => number(generation).map_or(Kind::Foreign, Kind::Part),
        _ if name == LOCK => Kind::Lock,
        _ => Kind::Foreign,
    }
}

/// A generation in the form in which it is written here. One that cannot be reached by counting is none.
fn number(digits: &str) -> Option<u64> {
    digits.parse().ok().filter(|number: &u64| *number < UNREACHED && number.to_string() == digits)
}

/// `None` when it is too long for a name.
fn quoted(key: &[u8]) -> Option<String> {
    let mut name = String::new();
    for byte in key {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(*byte)),
            // Writing to text does not fail.
            _ => write!(name, "%{byte:02x}").ok()?,
        }
        if name.len() > LONGEST_QUOTED {
            return None;
        }
    }
    Some(name)
}

/// FNV-1a with 64 bits: it is the same in every version and on every machine, and nothing depends on its being
/// free of collisions.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_what_the_documentation_says() {
        assert_eq!(of_value(b"ab_-9", 7), "key.ab_-9.7.spill");
        assert_eq!(of_value(b"", 0), "key..0.spill");
        assert_eq!(of_value(b"A/.%", 1), "key.%41%2f%2e%25.1.spill");
        assert_eq!(of_value(b"..", 1), "key.%2e%2e.1.spill");
        assert_eq!(of_value(&[b'a'; 112], 1), format!("key.{}.1.spill", "a".repeat(112)));
        assert_eq!(of_value(&[b'a'; 113], 1), format!("hash.{:016x}.1.spill", fnv1a(&[b'a'; 113])));
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c, "as its authors publish");
        assert_eq!(of_value(&[b'a'; 112], u64::MAX).len(), 143);
    }

    #[test]
    fn what_is_not_named_as_ours_is_foreign() {
        let foreign = [
            "",
            "x",
            "key",
            "key.a.spill",
            "key.a.1",
            "key.a.01.spill",
            "key.a.-1.spill",
            "key.a.+1.spill",
            "key.a.b.1.spill",
            "key.a.18446744073709551616.spill",
            "key.a.9223372036854775808.spill",
            "Key.a.1.spill",
            "key.a.1.spill~",
            "part.spill",
            "part.a.spill",
            "part.1.2.spill",
            "lock",
            "overspill.lock",
            ".spill",
        ];
        for name in foreign {
            assert_eq!(kind(OsStr::new(name)), Kind::Foreign, "{name}");
        }
        assert_eq!(kind(OsStr::new(LOCK)), Kind::Lock);
        assert_eq!(kind(OsStr::new(&of_part(12))), Kind::Part(12));
    }

    proptest! {
        #[test]
        fn names_are_safe_on_every_file_system_and_tell_short_keys_apart(
            a in prop::collection::vec(any::<u8>(), 0..60), b in prop::collection::vec(any::<u8>(), 0..60),
            long in prop::collection::vec(any::<u8>(), 0..400), generation in 0..UNREACHED,
        ) {
            for key in [&a, &long] {
                let name = of_value(key, generation);
                prop_assert!(name.len() <= 143);
                prop_assert!(name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'%')));
                prop_assert!(name.starts_with("key.") || name.starts_with("hash."));
                prop_assert_eq!(kind(OsStr::new(&name)), Kind::Value(generation));
            }
            if let (Some(first), Some(second)) = (quoted(&a), quoted(&b)) {
                prop_assert_eq!(first == second, a == b);
            }
        }
    }
}
