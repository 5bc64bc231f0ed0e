//! Why a command ends early, and its exit code.

use std::fmt;
use std::io;

use overspill::{Error, ErrorKind};

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line or a setting asks for what cannot be done.
    Usage(String),
    /// The library failed.
    Failed(Error),
    /// Standard output took no more, or the system refused something.
    System(io::Error),
}

impl Failure {
    /// 2 for a wrong command line or setting, 1 for all else.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Failed(_) | Failure::System(_) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(message) => f.write_str(message),
            Failure::Failed(error) => error.fmt(f),
            Failure::System(error) => error.fmt(f),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Config { .. } => Failure::Usage(error.to_string()),
            _ => Failure::Failed(error),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::System(error)
    }
}
