//! Finds the allocator in use among the objects of this process, and calls it.
#![expect(unsafe_code, reason = "the allocators' calls are C functions that are looked up by name")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use spill_core::{ErrorKind, Result};

use super::Allocator;

/// `int malloc_trim(size_t pad)`.
type MallocTrim = unsafe extern "C" fn(usize) -> c_int;
/// `int mallctl(const char *name, void *old, size_t *old_len, void *new, size_t new_len)`.
type Mallctl = unsafe extern "C" fn(*const c_char, *mut c_void, *mut usize, *mut c_void, usize) -> c_int;
/// `void mi_collect(bool force)`.
type MiCollect = unsafe extern "C" fn(bool);

/// All arenas, merged: `MALLCTL_ARENAS_ALL` is 4096 in every jemalloc since 4.3.
const PURGE_ALL: &CStr = c"arena.4096.purge";

/// The call of an allocator.
#[derive(Clone, Copy)]
pub(super) enum Found {
    Glibc(MallocTrim),
    Jemalloc(Mallctl),
    Mimalloc(MiCollect),
}

// References that are allowed to stay empty: jemalloc under the name that its Rust crate gives it, and mimalloc,
// where they are linked into the program. Those symbols are not in a program's dynamic table, so that `dlsym`
// does not see them.
#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_pointer_width = "64"))]
std::arch::global_asm!(
    ".weak _rjem_mallctl",
    ".weak mi_collect",
    ".pushsection .data.rel.ro.overspill_allocators,\"aw\"",
    ".balign 8",
    ".globl overspill_linked_allocators",
    ".hidden overspill_linked_allocators",
    "overspill_linked_allocators:",
    ".quad _rjem_mallctl",
    ".quad mi_collect",
    ".popsection",
);

#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_pointer_width = "64"))]
fn linked() -> [*mut c_void; 2] {
    unsafe extern "C" {
        static overspill_linked_allocators: [*mut c_void; 2];
    }
    // SAFETY: defined above as two aligned words, which the loader has filled before any code runs and nobody
    // changes.
    unsafe { overspill_linked_allocators }
}

#[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_pointer_width = "64")))]
fn linked() -> [*mut c_void; 2] {
    [ptr::null_mut(); 2]
}

/// The allocator that serves this process. Some look-ups by name, about a microsecond each.
pub(super) fn found() -> Option<Found> {
    // What is linked into this program. An exported symbol of some library may fill the references as well; what
    // serves `malloc` decides about those.
    let own = object(linked as fn() -> [*mut c_void; 2] as *mut c_void);
    let [jemalloc, mimalloc] = linked();
    let is_own = |address: *mut c_void| !address.is_null() && own.is_some() && object(address) == own;
    if is_own(jemalloc) {
        // SAFETY: the symbol is jemalloc's `mallctl`, of this type.
        return Some(Found::Jemalloc(unsafe { std::mem::transmute::<*mut c_void, Mallctl>(jemalloc) }));
    }
    if is_own(mimalloc) {
        // SAFETY: the symbol is mimalloc's `mi_collect`, of this type.
        return Some(Found::Mimalloc(unsafe { std::mem::transmute::<*mut c_void, MiCollect>(mimalloc) }));
    }
    // An allocator counts when `malloc` comes from the same object, so that a library which merely brings its
    // own under other names does not.
    let serves = object(symbol(c"malloc")?)?;
    let of_it = |name| symbol(name).filter(|address| object(*address) == Some(serves));
    if let Some(address) = of_it(c"mallctl") {
        // SAFETY: as above.
        return Some(Found::Jemalloc(unsafe { std::mem::transmute::<*mut c_void, Mallctl>(address) }));
    }
    if let Some(address) = of_it(c"mi_collect") {
        // SAFETY: as above.
        return Some(Found::Mimalloc(unsafe { std::mem::transmute::<*mut c_void, MiCollect>(address) }));
    }
    let address = of_it(c"malloc_trim")?;
    // SAFETY: the GNU C library's function, of this type.
    Some(Found::Glibc(unsafe { std::mem::transmute::<*mut c_void, MallocTrim>(address) }))
}

impl Found {
    pub(super) fn allocator(self) -> Allocator {
        match self {
            Found::Glibc(_) => Allocator::Glibc,
            Found::Jemalloc(_) => Allocator::Jemalloc,
            Found::Mimalloc(_) => Allocator::Mimalloc,
        }
    }

    /// Hands memory back; says whether it did, where the allocator tells.
    pub(super) fn release(self) -> Result<Option<bool>> {
        match self {
            // SAFETY: may be called at any time from any thread.
            Found::Glibc(malloc_trim) => Ok(Some(unsafe { malloc_trim(0) } == 1)),
            Found::Jemalloc(mallctl) => {
                let none = ptr::null_mut();
                // SAFETY: the name ends with a zero byte; this control reads and writes no value, for which
                // null pointers stand.
                let code = unsafe { mallctl(PURGE_ALL.as_ptr(), none, ptr::null_mut(), none, 0) };
                if code == 0 {
                    return Ok(None);
                }
                let status = std::io::Error::from_raw_os_error(code).to_string();
                let location = PURGE_ALL.to_string_lossy().into_owned();
                Err(ErrorKind::Backend { name: "jemalloc", location, status, transient: true }.into())
            }
            Found::Mimalloc(mi_collect) => {
                // SAFETY: may be called at any time from any thread.
                unsafe { mi_collect(true) };
                Ok(None)
            }
        }
    }
}

/// The address of a function that the dynamic loader knows.
fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: the name ends with a zero byte.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!address.is_null()).then_some(address)
}

/// Where the object that holds `address` was loaded.
fn object(address: *mut c_void) -> Option<*mut c_void> {
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: `info` is writable and of the right type; any address may be asked about.
    let known = unsafe { libc::dladdr(address, info.as_mut_ptr()) };
    // SAFETY: all-zero bytes are a value of this struct of pointers, and the call only adds to it.
    let info = unsafe { info.assume_init() };
    (known != 0).then_some(info.dli_fbase)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Under a tool that brings an allocator of its own none is found, and nothing is called.
    #[test]
    fn the_allocator_found_can_be_called_while_memory_is_in_use() {
        let values: Vec<Vec<u8>> = (0..1000_usize).map(|n| vec![n as u8; n]).collect();
        let found = found();
        if let Some(found) = found {
            assert_eq!(found.release().unwrap().is_some(), found.allocator() == Allocator::Glibc);
        }
        assert_eq!(found.map(Found::allocator), Allocator::in_use());
        assert!(values.iter().enumerate().all(|(n, value)| value.iter().all(|byte| *byte == n as u8)));
    }

    #[test]
    fn a_name_that_nobody_has_is_not_found() {
        assert!(symbol(c"overspill_has_no_such_function").is_none());
        assert!(object(ptr::null_mut()).is_none());
    }
}
