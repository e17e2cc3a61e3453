//! The terminal: questions, and leaving it as it was.

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::{
    io::{self, BufRead, Read, Write},
    sync::OnceLock,
};

/// The longest answer that is read, in bytes.
const ANSWER_MAX: u64 = 1024;

static AS_IT_WAS: OnceLock<Termios> = OnceLock::new();

/// Notes how the terminal is set, for [`restore`].
pub fn remember() {
    if let Ok(settings) = tcgetattr(io::stdin()) {
        let _ = AS_IT_WAS.set(settings);
    }
}

/// Sets the terminal as it was: a password prompt that a signal ended would leave it silent.
pub fn restore() {
    if let Some(settings) = AS_IT_WAS.get() {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, settings);
    }
}

/// Asks a question that is answered yes or, by anything else, no. Blocks.
///
/// # Errors
/// Where the terminal cannot be read.
pub fn ask(question: &str) -> io::Result<bool> {
    write!(io::stderr(), "{question} [y/N] ")?;
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().take(ANSWER_MAX).read_line(&mut answer)?;
    Ok(is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_means_yes() {
        assert!(["y", "Y\n", "yes\r\n", " YES "].into_iter().all(is_yes));
        assert!(!["", "\n", "n", "yeah", "ye s"].into_iter().any(is_yes));
    }
}
