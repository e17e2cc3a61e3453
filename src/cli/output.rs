//! Standard output, which may be closed at any time: `nfz ls … | head` is no error.

use super::failure::Failure;
use std::io::{self, BufWriter, Stdout, Write};

/// Lines to standard output, buffered. After a failed write nothing more is written.
pub struct Output {
    writer: BufWriter<Box<dyn Write + Send>>,
    failed: Option<io::ErrorKind>,
    message: String,
}

impl Output {
    /// To standard output.
    #[must_use]
    pub fn stdout() -> Self {
        let stdout: Stdout = io::stdout();
        Self::new(Box::new(stdout))
    }

    /// To `writer`.
    #[must_use]
    pub fn new(writer: Box<dyn Write + Send>) -> Self {
        Self { writer: BufWriter::with_capacity(64 << 10, writer), failed: None, message: String::new() }
    }

    /// Writes a line. `line` must be safe to print.
    pub fn line(&mut self, line: impl AsRef<[u8]>) {
        self.attempt(|writer| writer.write_all(line.as_ref()).and_then(|()| writer.write_all(b"\n")));
    }

    /// Hands on what is buffered.
    pub fn flush(&mut self) {
        self.attempt(Write::flush);
    }

    /// Whether nobody takes any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.failed.is_some()
    }

    /// Writes what is buffered.
    ///
    /// # Errors
    /// Where something could not be written, unless the reader just had enough.
    pub fn finish(&mut self) -> Result<(), Failure> {
        self.flush();
        match self.failed {
            None | Some(io::ErrorKind::BrokenPipe) => Ok(()),
            Some(_) => Err(Failure::failed(format!("cannot write to standard output: {}", self.message))),
        }
    }

    fn attempt(&mut self, write: impl FnOnce(&mut BufWriter<Box<dyn Write + Send>>) -> io::Result<()>) {
        if self.failed.is_some() {
            return;
        }
        if let Err(error) = write(&mut self.writer) {
            self.failed = Some(error.kind());
            self.message = error.to_string();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Refusing(io::ErrorKind);

    impl Write for Refusing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn after_a_line(kind: io::ErrorKind) -> Result<(), Failure> {
        let mut output = Output::new(Box::new(Refusing(kind)));
        output.line("x");
        output.flush();
        assert!(output.is_closed());
        output.finish()
    }

    #[test]
    fn a_reader_that_had_enough_is_no_error_and_a_full_disk_is_one() {
        assert!(after_a_line(io::ErrorKind::BrokenPipe).is_ok());
        assert!(after_a_line(io::ErrorKind::StorageFull).is_err());
    }
}
