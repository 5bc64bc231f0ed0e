//! One error type for every layer, sorted by what the caller can do about it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytesize::ByteSize;

/// The result of every fallible call in Overspill.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed.
///
/// Cheap to clone (one reference count), since everyone who waited for one failed read is given the same
/// error. [`Error::kind`] tells what can be done about it; the message names the value, the limit or path,
/// and the setting that changes it.
#[derive(Clone, thiserror::Error)]
#[error("{0}")]
pub struct Error(Arc<ErrorKind>);

/// The kinds of [`Error`], by what a caller can do about each.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ErrorKind {
    /// A target, quota or device has no room. Nothing was changed; work resumes by itself once there is room.
    #[error(
        "{} is full: {} used of {}{}; raise {setting}, or make room",
        place(path), ByteSize(*used), ByteSize(*limit),
        free.map(|f| format!(", {} free on the device", ByteSize(f))).unwrap_or_default()
    )]
    Full {
        /// Where: a file or directory, or `None` for memory.
        path: Option<PathBuf>,
        /// Bytes in use.
        used: u64,
        /// Bytes allowed.
        limit: u64,
        /// Bytes free on the device, where that is what ran out.
        free: Option<u64>,
        /// The setting that changes the limit.
        setting: &'static str,
    },
    /// One value can never fit, however much room there is.
    #[error("{what} of {size} bytes is larger than the {limit} bytes that {setting} allows")]
    TooLarge {
        /// What was too large.
        what: String,
        /// Its size in bytes.
        size: u64,
        /// The most that is allowed, in bytes.
        limit: u64,
        /// The setting or format rule that sets the limit.
        setting: &'static str,
    },
    /// Stored bytes are not those that were written. The value is lost; remove or overwrite its key.
    #[error(
        "corrupt data at {location}: expected {expected}, found {found}; the value cannot be restored, remove or replace its key"
    )]
    Corrupt {
        /// File and offset, or object and range.
        location: String,
        /// What should have been there.
        expected: String,
        /// What was there.
        found: String,
    },
    /// The operating system failed an operation.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: "read", "write", "create".
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A value could not be turned into frames, or frames into a value.
    #[error("codec {codec}: {reason}")]
    Codec {
        /// The codec's or compressor's name.
        codec: &'static str,
        /// What is wrong with the value or bytes.
        reason: String,
    },
    /// A backend or an observer failed in its own way.
    #[error("{name} failed at {location}: {status}{}", if *transient { " (may pass if tried again)" } else { "" })]
    Backend {
        /// The backend's name.
        name: &'static str,
        /// What it was working on.
        location: String,
        /// What it said.
        status: String,
        /// Whether the same call may succeed later.
        transient: bool,
    },
    /// A setting is wrong.
    #[error("{key} = {value:?} is not usable: expected {expected}")]
    Config {
        /// The setting.
        key: String,
        /// Its value, as given.
        value: String,
        /// What would be accepted.
        expected: String,
    },
    /// Code of a backend, codec, weigher or observer panicked. The panic was caught and nothing was lost.
    #[error("panicked while {during}: {message}")]
    Panicked {
        /// What was being done.
        during: &'static str,
        /// The panic's message.
        message: String,
    },
    /// A key that had to be there is absent, where the caller asked for all or an error.
    #[error("key number {index} of those asked for is absent")]
    Absent {
        /// Its place among the keys asked for, from zero.
        index: usize,
    },
    /// The mapping was closed.
    #[error("{what} is closed")]
    Closed {
        /// What was closed.
        what: &'static str,
    },
}

fn place(path: &Option<PathBuf>) -> String {
    path.as_ref().map_or_else(|| "memory".to_owned(), |p| p.display().to_string())
}

impl Error {
    /// What kind of error this is, with its details.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.0
    }

    /// Whether the same call may succeed later with nothing changed by the caller: room is made, a device or
    /// service recovers. Corrupt data, a bad setting, a codec's refusal and a closed mapping stay as they are.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self.kind() {
            ErrorKind::Full { .. } => true,
            ErrorKind::Io { source, .. } => !matches!(
                source.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported | io::ErrorKind::InvalidData
            ),
            ErrorKind::Backend { transient, .. } => *transient,
            _ => false,
        }
    }

    /// Whether storage has no room ([`ErrorKind::Full`]).
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self.kind(), ErrorKind::Full { .. })
    }

    /// An [`ErrorKind::Io`] error.
    pub fn io(operation: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        ErrorKind::Io { operation, path: path.into(), source }.into()
    }

    /// An [`ErrorKind::Config`] error.
    pub fn config(key: impl Into<String>, value: impl ToString, expected: impl Into<String>) -> Self {
        ErrorKind::Config { key: key.into(), value: value.to_string(), expected: expected.into() }.into()
    }

    /// An [`ErrorKind::Codec`] error.
    pub fn codec(codec: &'static str, reason: impl Into<String>) -> Self {
        ErrorKind::Codec { codec, reason: reason.into() }.into()
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Error(Arc::new(kind))
    }
}

impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
