//! The way to standard output: an error where it is closed, not a panic.

use std::fmt::Display;
use std::io::{self, Write};

use crate::failure::Failure;

/// Prints a line.
pub(crate) fn line(text: impl Display) -> Result<(), Failure> {
    writeln!(io::stdout(), "{text}")?;
    Ok(())
}
