//! Why the program ends early, and its exit code.

use std::fmt;
use std::io;

/// Why there is no result.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line asks for what cannot be done.
    Usage(String),
    /// A signal asked for the end; its number.
    Interrupted(u8),
    /// The index is not what the files say.
    Mismatch(String),
    /// The buffer or its storage failed.
    Storage(overspill::Error),
    /// A thread could not be started, or standard output took no more.
    System(io::Error),
}

impl Failure {
    /// 2 for a wrong command line, 128 and the signal's number as shells count it, 1 for all else.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Interrupted(signal) => 128 + signal,
            Failure::Mismatch(_) | Failure::Storage(_) | Failure::System(_) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(message) => f.write_str(message),
            Failure::Interrupted(signal) => write!(f, "ended by signal {signal}; nothing is left on disk"),
            Failure::Mismatch(message) => write!(f, "self-check failed: {message}"),
            Failure::Storage(error) => error.fmt(f),
            Failure::System(error) => error.fmt(f),
        }
    }
}

impl From<overspill::Error> for Failure {
    fn from(error: overspill::Error) -> Self {
        Failure::Storage(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::System(error)
    }
}
