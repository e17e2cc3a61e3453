//! Exit codes. What each means to a script stands in `docs/exit-codes.md`.

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Everything was done.
    Done = 0,
    /// It failed, for a reason that has no code of its own.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// Done, but with problems, each listed.
    Problems = 3,
    /// Verify found damage.
    Damage = 4,
    /// The link was lost or never came about; the same command may succeed later.
    Link = 5,
    /// No space is left at the repository.
    Full = 6,
    /// Another run does the same already (`--one-at-a-time`).
    Busy = 7,
    /// There is no repository at the address.
    NoRepository = 10,
    /// The password or the key file does not fit.
    WrongPassword = 12,
    /// Ended by SIGHUP.
    HungUp = 129,
    /// Ended by Ctrl-C (SIGINT).
    Interrupted = 130,
    /// Ended by SIGTERM.
    Terminated = 143,
}

impl Exit {
    /// All of them.
    pub const ALL: [Exit; 13] = [
        Exit::Done,
        Exit::Failed,
        Exit::Usage,
        Exit::Problems,
        Exit::Damage,
        Exit::Link,
        Exit::Full,
        Exit::Busy,
        Exit::NoRepository,
        Exit::WrongPassword,
        Exit::HungUp,
        Exit::Interrupted,
        Exit::Terminated,
    ];

    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Whether a signal ended the work.
    #[must_use]
    pub fn is_by_signal(self) -> bool {
        matches!(self, Exit::HungUp | Exit::Interrupted | Exit::Terminated)
    }

    /// What it means, in a few words.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Exit::Done => "done",
            Exit::Failed => "failed",
            Exit::Usage => "the command line makes no sense",
            Exit::Problems => "done, but with problems, each listed",
            Exit::Damage => "verify found damage",
            Exit::Link => "the link gave up; run it again",
            Exit::Full => "the server is full",
            Exit::Busy => "another run does it already",
            Exit::NoRepository => "there is no repository there",
            Exit::WrongPassword => "wrong password or key file",
            Exit::HungUp => "ended by SIGHUP",
            Exit::Interrupted => "interrupted (Ctrl-C)",
            Exit::Terminated => "ended by SIGTERM",
        }
    }

    /// The table for `nfz --help`.
    #[must_use]
    pub fn table() -> String {
        Self::ALL.map(|exit| format!("  {:>3}  {}", exit.code(), exit.meaning())).join("\n")
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_is_documented() {
        let page = include_str!("../../docs/exit-codes.md");
        for exit in Exit::ALL {
            let row = format!("| {} | {}", exit.code(), exit.meaning());
            assert!(page.contains(&row), "docs/exit-codes.md lacks the row \"{row}\"");
            assert!(Exit::table().contains(exit.meaning()));
        }
    }

    #[test]
    fn no_two_share_a_code() {
        let mut codes = Exit::ALL.map(Exit::code);
        codes.sort_unstable();
        assert!(codes.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
