//! Findings that do not stop the work.

use crate::format::path::TreePath;
use std::{fmt::Display, fmt::Formatter};

/// Something that could not be done for one entry, while the work went on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The entry.
    pub path: TreePath,
    /// What could not be done, to be read after "cannot": `read the directory`.
    pub what: &'static str,
    /// Why, as the system says it.
    pub why: String,
}

impl Problem {
    /// A problem of `path`.
    pub fn new(path: &TreePath, what: &'static str, why: impl Display) -> Self {
        Self { path: path.clone(), what, why: why.to_string() }
    }
}

impl Display for Problem {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: cannot {}: {}", self.path, self.what, self.why)
    }
}

impl From<Problem> for super::event::Problem {
    fn from(problem: Problem) -> Self {
        Self::new(&problem.path, format_args!("cannot {}: {}", problem.what, problem.why))
    }
}
