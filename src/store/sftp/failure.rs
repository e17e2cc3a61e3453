//! What ssh's last words mean. Pure: from text and exit code to the kind of failure.

use crate::store::ErrorKind;

/// How many of ssh's last lines are shown.
const LINES: usize = 3;

/// What ssh says when a connection does not come about, and what it means; the first that is found counts.
const PHRASES: [(&str, ErrorKind); 20] = [
    ("host key verification failed", ErrorKind::HostKeyRefused),
    ("remote host identification has changed", ErrorKind::HostKeyRefused),
    ("host key is known for", ErrorKind::HostKeyRefused),
    ("no matching host key type", ErrorKind::HostKeyRefused),
    ("permission denied (", ErrorKind::AuthenticationFailed),
    ("permission denied, please try again", ErrorKind::AuthenticationFailed),
    ("too many authentication failures", ErrorKind::AuthenticationFailed),
    ("no supported authentication methods", ErrorKind::AuthenticationFailed),
    ("no more authentication methods", ErrorKind::AuthenticationFailed),
    ("subsystem request failed", ErrorKind::NoSftp),
    ("could not resolve hostname", ErrorKind::Unreachable),
    ("connection refused", ErrorKind::Unreachable),
    ("timed out", ErrorKind::Unreachable),
    ("no route to host", ErrorKind::Unreachable),
    ("network is unreachable", ErrorKind::Unreachable),
    ("connection closed by", ErrorKind::Unreachable),
    ("connection reset by", ErrorKind::Unreachable),
    ("kex_exchange_identification", ErrorKind::Unreachable),
    ("banner exchange", ErrorKind::Unreachable),
    ("broken pipe", ErrorKind::Unreachable),
];

/// Why no connection came about: from ssh's stderr and its exit code, if it ended.
pub(super) fn no_connection(stderr: &str, exit: Option<i32>) -> (ErrorKind, String) {
    let said = stderr.to_lowercase();
    let phrase = PHRASES.iter().find(|(phrase, _)| said.contains(phrase));
    let kind = match (phrase, exit) {
        (Some((_, kind)), _) => *kind,
        (None, Some(126 | 127)) => ErrorKind::Other, // the shell found no such program
        (None, Some(255)) => ErrorKind::Unreachable, // what ssh itself fails with
        (None, _) => ErrorKind::NoSftp,
    };
    let nothing = if kind == ErrorKind::NoSftp {
        "the server ended the session before SFTP began"
    } else {
        "ssh ended without a word"
    };
    (kind, last_words(stderr).unwrap_or_else(|| nothing.to_owned()))
}

/// The last lines that say something, in one.
pub(super) fn last_words(stderr: &str) -> Option<String> {
    let says_something = |line: &&str| {
        let chatter = line.starts_with("debug") || line.starts_with("Warning: Permanently added");
        !chatter && line.chars().any(char::is_alphanumeric)
    };
    let mut lines: Vec<&str> = stderr.lines().map(str::trim).filter(says_something).rev().take(LINES).collect();
    lines.reverse();
    (!lines.is_empty()).then(|| lines.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ssh_says_is_understood() {
        let said = [
            ("ssh: connect to host h port 22: Connection refused", Some(255), ErrorKind::Unreachable),
            ("ssh: Could not resolve hostname h: Name or service not known", Some(255), ErrorKind::Unreachable),
            ("Host key verification failed.\r\nConnection closed by remote host", Some(255), ErrorKind::HostKeyRefused),
            ("u@h: Permission denied (publickey,password).", Some(255), ErrorKind::AuthenticationFailed),
            ("subsystem request failed on channel 0\nConnection closed", Some(255), ErrorKind::NoSftp),
            ("", Some(0), ErrorKind::NoSftp),
            ("", Some(255), ErrorKind::Unreachable),
            ("sh: 1: exec: nossh: not found", Some(127), ErrorKind::Other),
        ];
        for (stderr, exit, kind) in said {
            assert_eq!(no_connection(stderr, exit).0, kind, "{stderr}");
        }
    }

    #[test]
    fn only_the_last_lines_that_say_something_are_shown() {
        let stderr = "banner\n@@@@@@\none\ndebug1: x\ntwo\r\n\nWarning: Permanently added 'h' to hosts.\nthree\n";
        assert_eq!(last_words(stderr).as_deref(), Some("one; two; three"));
        assert_eq!(last_words("\n@@@\n"), None);
    }
}
