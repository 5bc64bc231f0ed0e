//! Why rkyv refused bytes or a value.

use std::fmt;

use rkyv::rancor::{Source, Trace};

/// What rkyv says, and the first of what it adds on its way out, which tells where. Its own error types say
/// either nothing in release builds or the first part only.
///
/// It is one pointer, since each step of a validation returns room for one.
#[derive(Debug)]
pub struct Refusal(Box<Said>);

#[derive(Debug)]
struct Said {
    what: String,
    wheres: Vec<String>,
}

/// How much of the way out is kept: the innermost steps say most, and a deep value has many.
const WHERES: usize = 3;

impl Source for Refusal {
    fn new<T: std::error::Error + Send + Sync + 'static>(source: T) -> Self {
        Refusal(Box::new(Said { what: source.to_string(), wheres: Vec::new() }))
    }
}

impl Trace for Refusal {
    fn trace<R: fmt::Debug + fmt::Display + Send + Sync + 'static>(mut self, trace: R) -> Self {
        if self.0.wheres.len() < WHERES {
            self.0.wheres.push(trace.to_string());
        }
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.what)?;
        self.0.wheres.iter().try_for_each(|place| write!(f, ", {place}"))
    }
}

impl std::error::Error for Refusal {}
