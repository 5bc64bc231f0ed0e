//! Files of the operating system, mapped into memory to be read.
//!
//! To read a short range out of a mapping takes no call of the system. But where a page cannot be had, since the file was
//! cut short or the device fails, the system sends the thread a signal (`SIGBUS`) in the middle of the copy. So there is
//! one function that copies, and a handler that recognises its instructions: it has the function return and say so. Any
//! other bus error goes where it went before.
#![expect(unsafe_code, reason = "mappings, and a handler of signals, have no safe binding")]

use std::arch::naked_asm;
use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::OnceLock;

use super::Mapping;
use super::page_cache::pages;

/// The first bytes of a file, mapped. The file may be shorter.
pub(super) struct FileMapping {
    start: *mut c_void,
    len: usize,
}

// SAFETY: the mapping is the same for all threads, nothing but the destructor changes it, and what it leads to is read
// by `copy` alone.
unsafe impl Send for FileMapping {}
// SAFETY: as above.
unsafe impl Sync for FileMapping {}

impl FileMapping {
    pub(super) fn new(file: &File, len: u64) -> io::Result<Self> {
        recover_from_bus_errors()?;
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping, at a place that the system chooses.
        let start = unsafe {
            libc::mmap(ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(FileMapping { start, len })
    }

    /// Where a range begins, if all of it is mapped.
    fn place(&self, offset: u64, len: usize) -> Option<*mut u8> {
        let offset = usize::try_from(offset).ok()?;
        let is_mapped = offset.checked_add(len)? <= self.len;
        is_mapped.then(|| self.start.cast::<u8>().wrapping_add(offset))
    }
}

impl Mapping for FileMapping {
    fn read(&self, buffer: &mut [u8], offset: u64) -> bool {
        let Some(from) = self.place(offset, buffer.len()) else { return false };
        // SAFETY: both ranges are mapped, the buffer's is ours alone, and they do not overlap. Bytes that somebody writes
        // meanwhile come out old or new, as they would out of a call of the system, since the compiler knows nothing of
        // them. A page that cannot be had ends the copy.
        let left = unsafe { copy(buffer.as_mut_ptr(), from, buffer.len()) };
        left == 0
    }

    fn release(&self, offset: u64, len: u64) {
        let Some((from, len)) = pages(offset, len) else { return };
        let len = len.get().min((self.len as u64).saturating_sub(from)) as usize;
        if let Some(place) = self.place(from, len) {
            // SAFETY: a range of the mapping, which can be read again: pages of a file come back from it. Where the
            // system refuses, it keeps them.
            _ = unsafe { libc::madvise(place.cast(), len, libc::MADV_DONTNEED) };
        }
    }
}

impl Drop for FileMapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody reads it any more.
        _ = unsafe { libc::munmap(self.start, self.len) };
    }
}

/// Bytes of code within which all of [`copy`] lies.
const CODE: usize = 256;

/// Copies `len` bytes. Returns 0, or 1 when a page of the source could not be had; then some bytes may have been copied.
///
/// It asks for lines of the processor's cache eight lines ahead, since neither side has been touched for long. Where it
/// goes on after a bus error is in `r10`, whose value the calling convention leaves to us.
///
/// # Safety
/// The source is mapped, the target may be written, and they do not overlap.
#[unsafe(naked)]
unsafe extern "sysv64" fn copy(to: *mut u8, from: *const u8, len: usize) -> usize {
    naked_asm!(
        "lea r10, [rip + 4f]",
        "2:",
        "cmp rdx, 64",
        "jb 3f",
        "prefetcht0 [rsi + 512]",
        "prefetchw [rdi + 512]",
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + 16]",
        "movups xmm2, [rsi + 32]",
        "movups xmm3, [rsi + 48]",
        "movups [rdi], xmm0",
        "movups [rdi + 16], xmm1",
        "movups [rdi + 32], xmm2",
        "movups [rdi + 48], xmm3",
        "add rsi, 64",
        "add rdi, 64",
        "sub rdx, 64",
        "jmp 2b",
        "3:",
        "mov rcx, rdx",
        "rep movsb",
        "xor eax, eax",
        "ret",
        "4:",
        "mov eax, 1",
        "ret",
        ".fill {code}, 1, 0xcc",
        code = const CODE,
    )
}

/// What took bus errors before us.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// Installs the handler, once in a process.
fn recover_from_bus_errors() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let install = || {
        // SAFETY: all zeros is a value of this type, with an empty set of signals and no handler.
        let (mut action, mut previous): (libc::sigaction, libc::sigaction) = unsafe { std::mem::zeroed() };
        let failed = || io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL);
        // Known before ours is there to hand on to it.
        // SAFETY: the pointer is to a value of the right type; nothing is installed.
        if unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut previous) } != 0 {
            return Err(failed());
        }
        _ = PREVIOUS.set(previous);
        action.sa_sigaction = on_bus_error as *const () as usize;
        // on the stack for signals, where there is one: the handler that it stands before may expect that
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: the pointer is to a value of the right type; the handler does what a handler may.
        let done = unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) };
        if done == 0 { Ok(()) } else { Err(failed()) }
    };
    INSTALLED.get_or_init(install).map_err(io::Error::from_raw_os_error)
}

/// Ends a [`copy`] that met a page that could not be had; hands all else on.
extern "C" fn on_bus_error(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let code = copy as *const () as usize;
    // SAFETY: the system gives a handler with `SA_SIGINFO` what is known of the signal, and the thread's registers, to be
    // changed.
    let (info_code, registers) =
        unsafe { ((*info).si_code, &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs) };
    // an instruction that met it, and not somebody who sent it, or tells of a page that nobody asked for
    let is_fault = info_code > 0 && info_code != libc::BUS_MCEERR_AO;
    let at = registers[libc::REG_RIP as usize] as usize;
    // behind the first instruction, which sets `r10`
    if is_fault && (code + 1..code + CODE).contains(&at) {
        registers[libc::REG_RIP as usize] = registers[libc::REG_R10 as usize];
        return;
    }
    let previous = PREVIOUS.get();
    match previous.map_or(libc::SIG_DFL, |previous| previous.sa_sigaction) {
        libc::SIG_IGN if !is_fault => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            // The instruction runs again, or the signal comes again, and the process ends as if we had never been.
            // SAFETY: all zeros is the default action; setting one and sending a signal are allowed in a handler.
            unsafe {
                let default: libc::sigaction = std::mem::zeroed();
                _ = libc::sigaction(signal, &raw const default, ptr::null_mut());
                if !is_fault {
                    _ = libc::raise(signal);
                }
            }
        }
        handler if previous.is_some_and(|previous| previous.sa_flags & libc::SA_SIGINFO != 0) => {
            // SAFETY: it was installed as a handler with these three arguments.
            let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                unsafe { std::mem::transmute(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: it was installed as a handler with this argument.
            let handler: extern "C" fn(c_int) = unsafe { std::mem::transmute(handler) };
            handler(signal);
        }
    }
}
