//! A handler of bus errors that ends a copy which met a page that could not be had.

use std::ffi::{c_int, c_void};
use std::io;
use std::ptr;
use std::sync::OnceLock;

use super::copy;

/// What took bus errors before us.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// Installs the handler, once in a process.
pub(super) fn recover() -> io::Result<()> {
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

/// Ends a copy that met a page that could not be had; hands all else on.
extern "C" fn on_bus_error(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the system gives a handler with `SA_SIGINFO` what is known of the signal, and the thread's registers, to be
    // changed.
    let (info_code, registers) =
        unsafe { ((*info).si_code, &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs) };
    // an instruction that met it, and not somebody who sent it, or tells of a page that nobody asked for
    let is_fault = info_code > 0 && info_code != libc::BUS_MCEERR_AO;
    let (at, end) = (registers[libc::REG_RIP as usize] as usize, registers[libc::REG_R10 as usize] as usize);
    if is_fault && copy::is_copying(at, end) {
        registers[libc::REG_RIP as usize] = end as i64;
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
