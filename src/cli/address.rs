//! Addresses: where a repository lies. Pure: nothing is resolved, opened or connected to here.
//!
//! ```text
//! [user@]host:dir                  relative to the login directory, or absolute: host:/srv/backup
//! sftp://[user@]host[:port]/dir    absolute; /~/dir is relative to the login directory; %20 is a space
//! ./dir, /dir, dir                 a local directory: no colon before the first slash
//! ```

use crate::format::path::Escaped;
use std::{
    ffi::{OsStr, OsString},
    fmt,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
};

/// Where a repository lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A directory on an SFTP server.
    Sftp(Remote),
    /// A local directory.
    Directory(PathBuf),
}

/// A directory on an SFTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The user, where the address names one; ssh's configuration decides otherwise.
    pub user: Option<String>,
    /// A name, an alias of `ssh_config`, or a number without brackets.
    pub host: String,
    /// The port, where the address names one.
    pub port: Option<u16>,
    /// The directory: absolute where it begins with `/`, else relative to the login directory. Never empty.
    pub directory: Vec<u8>,
}

/// Why some text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing at all.
    #[error("it is empty")]
    Empty,
    /// A zero byte.
    #[error("it holds a zero byte")]
    Nul,
    /// `http://…` and the like.
    #[error("{0}:// is not understood; there are user@host:dir, sftp://user@host/dir and local directories")]
    Scheme(String),
    /// No host, or what cannot be one.
    #[error("\"{0}\" cannot be a host")]
    Host(String),
    /// What cannot be a user.
    #[error("\"{0}\" cannot be a user")]
    User(String),
    /// `user:password@host`.
    #[error("it holds a password; ssh asks for one, or better uses a key")]
    PasswordInside,
    /// Not 1 … 65535.
    #[error("\"{0}\" is not a port")]
    Port(String),
    /// No directory is named.
    #[error("it names no directory")]
    NoDirectory,
    /// `~other/dir`.
    #[error("~name is not understood; write the path, absolute or relative to the login directory")]
    OtherHome,
    /// `user@host` and nothing more.
    #[error("{0} names no directory: write {0}:DIR for a server, or ./{0} for a local directory")]
    LooksRemote(String),
    /// `%` without two hexadecimal digits.
    #[error("after % come two hexadecimal digits (%25 for % itself)")]
    Percent,
}

const URL: &[u8] = b"sftp://";

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn parse(text: &OsStr) -> Result<Self, AddressError> {
        let bytes = text.as_bytes();
        if bytes.is_empty() {
            return Err(AddressError::Empty);
        }
        if bytes.contains(&0) {
            return Err(AddressError::Nul);
        }
        if let Some(rest) = bytes.strip_prefix(URL) {
            return parse_url(rest).map(Self::Sftp);
        }
        if let Some(scheme) = foreign_scheme(bytes) {
            return Err(AddressError::Scheme(scheme));
        }
        if looks_remote(text) {
            return parse_scp(bytes).map(Self::Sftp);
        }
        // Someone forgot `:dir`: a backup on this very disk is not what they want.
        if bytes.contains(&b'@') && !bytes.contains(&b'/') {
            return Err(AddressError::LooksRemote(lossy(bytes)));
        }
        Ok(Self::Directory(PathBuf::from(text)))
    }
}

/// Whether `text` can only be a server's address: a colon stands before its first slash.
#[must_use]
pub fn looks_remote(text: &OsStr) -> bool {
    text.as_bytes().iter().find(|byte| matches!(byte, b':' | b'/')) == Some(&b':')
}

/// `http` of `http://…`.
fn foreign_scheme(bytes: &[u8]) -> Option<String> {
    let at = bytes.windows(3).position(|window| window == b"://")?;
    let scheme = std::str::from_utf8(&bytes[..at]).ok()?;
    let is_scheme = scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c)) && !scheme.is_empty();
    is_scheme.then(|| scheme.to_owned())
}

/// `[user@]host:dir`; a host in brackets may hold colons.
fn parse_scp(bytes: &[u8]) -> Result<Remote, AddressError> {
    let first_colon = position(bytes, b':').unwrap_or(bytes.len());
    let bracket = bytes[..first_colon].iter().rposition(|&byte| byte == b'[');
    let in_brackets = bracket.is_some_and(|at| at == 0 || bytes[at - 1] == b'@');
    let end = match bracket.filter(|_| in_brackets) {
        Some(_) => bytes.windows(2).position(|pair| pair == b"]:").map(|at| at + 1),
        None => Some(first_colon),
    };
    let end = end.ok_or_else(|| AddressError::Host(lossy(bytes)))?;
    let (user, host) = split_user(&bytes[..end]);
    let user = user.map(|user| check_user(user.to_vec())).transpose()?;
    let directory = home_relative(&bytes[end + 1..])?;
    Ok(Remote { user, host: check_host(host)?, port: None, directory })
}

/// What follows `sftp://`.
fn parse_url(bytes: &[u8]) -> Result<Remote, AddressError> {
    let slash = position(bytes, b'/').unwrap_or(bytes.len());
    let (authority, path) = bytes.split_at(slash);
    let (user, rest) = split_user(authority);
    if user.is_some_and(|user| user.contains(&b':')) {
        return Err(AddressError::PasswordInside);
    }
    let user = user.map(|user| check_user(percent_decoded(user)?)).transpose()?;
    let host_end = rest.iter().rposition(|&byte| byte == b']').map_or(0, |at| at + 1);
    let colon = position(&rest[host_end..], b':').map(|at| at + host_end);
    let (host, port) = colon.map_or((rest, None), |at| (&rest[..at], Some(&rest[at + 1..])));
    let port = port.map(parse_port).transpose()?;
    Ok(Remote { user, host: check_host(host)?, port, directory: url_directory(path)? })
}

/// `/dir` is absolute, `/~/dir` relative to the login directory.
fn url_directory(path: &[u8]) -> Result<Vec<u8>, AddressError> {
    let encoded = match path {
        b"" | b"/" | b"/~" => return Err(AddressError::NoDirectory),
        _ => path.strip_prefix(b"/~/").unwrap_or(path),
    };
    let directory = percent_decoded(encoded)?;
    match directory.as_slice() {
        b"" => Err(AddressError::NoDirectory),
        directory if directory.contains(&0) => Err(AddressError::Nul),
        // `/~//dir` would turn absolute; it means the same without the second slash nowhere, so it is refused.
        [b'/', ..] if encoded.len() != path.len() => Err(AddressError::NoDirectory),
        _ => Ok(directory),
    }
}

/// `~/dir` is `dir`, for everything relative lies below the login directory.
fn home_relative(directory: &[u8]) -> Result<Vec<u8>, AddressError> {
    match directory {
        b"" | b"~" | b"~/" => Err(AddressError::NoDirectory),
        [b'~', b'/', b'/', ..] => Err(AddressError::NoDirectory),
        [b'~', b'/', rest @ ..] => Ok(rest.to_vec()),
        [b'~', ..] => Err(AddressError::OtherHome),
        _ => Ok(directory.to_vec()),
    }
}

/// The user may hold an `@` itself, as some hosters' do; the host may not.
fn split_user(bytes: &[u8]) -> (Option<&[u8]>, &[u8]) {
    match bytes.iter().rposition(|&byte| byte == b'@') {
        Some(at) => (Some(&bytes[..at]), &bytes[at + 1..]),
        None => (None, bytes),
    }
}

/// ssh takes the host as an argument: it must not be taken for an option, nor hold what ssh_config expands oddly.
fn check_host(bytes: &[u8]) -> Result<String, AddressError> {
    let bad = || AddressError::Host(lossy(bytes));
    let text = std::str::from_utf8(bytes).map_err(|_| bad())?;
    let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let host = bracketed.unwrap_or(text);
    let is_fine = |c: char| match c {
        ':' | '%' => bracketed.is_some(),
        _ => c.is_alphanumeric() || "._-".contains(c),
    };
    // Brackets are for numbers with colons alone.
    let is_number = bracketed.is_none() || host.contains(':');
    if host.is_empty() || host.starts_with('-') || !is_number || !host.chars().all(is_fine) {
        return Err(bad());
    }
    Ok(host.to_owned())
}

fn check_user(bytes: Vec<u8>) -> Result<String, AddressError> {
    let bad = AddressError::User(lossy(&bytes));
    match String::from_utf8(bytes) {
        Ok(user) if !user.is_empty() && !user.starts_with('-') && !user.chars().any(is_odd) => Ok(user),
        _ => Err(bad),
    }
}

/// What no user's name holds, and a shell on the way could take amiss.
fn is_odd(c: char) -> bool {
    c.is_control() || c.is_whitespace() || "/:'\"`$&|;<>(){}[]\\*?!#%".contains(c)
}

fn parse_port(bytes: &[u8]) -> Result<u16, AddressError> {
    let text = lossy(bytes);
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port @ 1..) if digits => Ok(port),
        _ => Err(AddressError::Port(text)),
    }
}

fn percent_decoded(bytes: &[u8]) -> Result<Vec<u8>, AddressError> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(&byte) = rest.next() {
        let byte = if byte == b'%' { hex_digit(rest.next())? << 4 | hex_digit(rest.next())? } else { byte };
        decoded.push(byte);
    }
    Ok(decoded)
}

fn hex_digit(byte: Option<&u8>) -> Result<u8, AddressError> {
    let digit = byte.and_then(|&byte| char::from(byte).to_digit(16)).ok_or(AddressError::Percent)?;
    Ok(digit as u8)
}

fn position(bytes: &[u8], wanted: u8) -> Option<usize> {
    bytes.iter().position(|&byte| byte == wanted)
}

fn lossy(bytes: &[u8]) -> String {
    Escaped(bytes).to_string()
}

/// As it may be typed again: the address that is shown is read as the same address (for local directories, where they
/// are printable text).
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sftp(remote) => remote.fmt(f),
            Self::Directory(path) => write!(f, "{}", Escaped(path.as_os_str().as_bytes())),
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let short = format!("{}{host}:", self.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default());
        match std::str::from_utf8(&self.directory) {
            Ok(directory) if self.port.is_none() && is_plain(directory) => {
                write!(f, "{short}{directory}")
            }
            _ => self.fmt_url(&host, f),
        }
    }
}

impl Remote {
    fn fmt_url(&self, host: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sftp://")?;
        if let Some(user) = &self.user {
            write!(f, "{}@", percent_encoded(user.as_bytes()))?;
        }
        f.write_str(host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        let below_login = if self.directory.starts_with(b"/") { "" } else { "/~/" };
        write!(f, "{below_login}{}", percent_encoded(&self.directory))
    }
}

/// Whether the short form can show `directory`.
fn is_plain(directory: &str) -> bool {
    !directory.starts_with('~')
        && !directory.starts_with("//")
        && Escaped(directory.as_bytes()).to_string() == directory
}

fn percent_encoded(bytes: &[u8]) -> String {
    let show = |&byte: &u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => char::from(byte).to_string(),
        _ => format!("%{byte:02x}"),
    };
    bytes.iter().map(show).collect()
}

impl From<&Address> for OsString {
    fn from(address: &Address) -> Self {
        match address {
            Address::Sftp(remote) => OsString::from_vec(remote.to_string().into_bytes()),
            Address::Directory(path) => path.clone().into_os_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Address, AddressError> {
        Address::parse(OsStr::new(text))
    }

    fn remote(text: &str) -> (Option<String>, String, Option<u16>, String) {
        match parse(text) {
            Ok(Address::Sftp(r)) => (r.user, r.host, r.port, String::from_utf8(r.directory).unwrap()),
            other => panic!("{text}: {other:?}"),
        }
    }

    fn parts(user: &str, host: &str, port: u16, dir: &str) -> (Option<String>, String, Option<u16>, String) {
        let user = (!user.is_empty()).then(|| user.to_owned());
        (user, host.to_owned(), (port > 0).then_some(port), dir.to_owned())
    }

    #[test]
    fn each_form_of_a_servers_address_is_read() {
        assert_eq!(remote("me@host:backup"), parts("me", "host", 0, "backup"));
        assert_eq!(remote("host:/srv/backup"), parts("", "host", 0, "/srv/backup"));
        assert_eq!(remote("host:~/backup"), parts("", "host", 0, "backup"));
        assert_eq!(remote("host:a:b@c"), parts("", "host", 0, "a:b@c"));
        assert_eq!(remote("me@example.com@host:x"), parts("me@example.com", "host", 0, "x"));
        assert_eq!(remote("[::1]:backup"), parts("", "::1", 0, "backup"));
        assert_eq!(remote("me@[fe80::1%eth0]:/b"), parts("me", "fe80::1%eth0", 0, "/b"));
        assert_eq!(remote("sftp://me@host:2222/srv/b"), parts("me", "host", 2222, "/srv/b"));
        assert_eq!(remote("sftp://host/~/b"), parts("", "host", 0, "b"));
        assert_eq!(remote("sftp://[::1]:22/b"), parts("", "::1", 22, "/b"));
        assert_eq!(remote("sftp://a%40b@host/~/a%20b"), parts("a@b", "host", 0, "a b"));
    }

    #[test]
    fn without_a_colon_before_the_first_slash_it_is_a_local_directory() {
        for text in ["./x", "/x", "x", "../x:y", "./host:dir", "a/b:c", "/sftp://x", "~"] {
            assert_eq!(parse(text), Ok(Address::Directory(text.into())), "{text}");
            assert!(!looks_remote(OsStr::new(text)));
        }
    }

    #[test]
    fn what_ssh_could_take_for_an_option_is_refused() {
        for text in ["-oProxyCommand=x:dir", "-x@host:dir", "me@-host:dir", "sftp://-x/dir", "sftp://%2dx@host/dir"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_names_no_place_is_refused() {
        let refused = [
            ("", AddressError::Empty),
            ("a\0b", AddressError::Nul),
            ("sftp://host/a%00b", AddressError::Nul),
            (":dir", AddressError::Host(String::new())),
            ("me@:dir", AddressError::Host(String::new())),
            ("@host:dir", AddressError::User(String::new())),
            ("[::1]", AddressError::Host("[::1]".into())),
            ("[::1:dir", AddressError::Host("[::1:dir".into())),
            ("[host]:dir", AddressError::Host("[host]".into())),
            ("ho st:dir", AddressError::Host("ho st".into())),
            ("host:", AddressError::NoDirectory),
            ("host:~", AddressError::NoDirectory),
            ("host:~other/dir", AddressError::OtherHome),
            ("sftp://host", AddressError::NoDirectory),
            ("sftp://host/", AddressError::NoDirectory),
            ("sftp://host/~/", AddressError::NoDirectory),
            ("sftp://host:0/dir", AddressError::Port("0".into())),
            ("sftp://host:/dir", AddressError::Port(String::new())),
            ("sftp://host:+22/dir", AddressError::Port("+22".into())),
            ("sftp://host:65536/dir", AddressError::Port("65536".into())),
            ("sftp://me:secret@host/dir", AddressError::PasswordInside),
            ("sftp://host/a%2", AddressError::Percent),
            ("http://host/dir", AddressError::Scheme("http".into())),
            ("file:///dir", AddressError::Scheme("file".into())),
        ];
        for (text, error) in refused {
            assert_eq!(parse(text), Err(error), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_is_safe(text in "[ -~]{0,30}|[@:/\\[\\]~%a.-]{0,12}|sftp://[@:/\\[\\]~%2a.-]{0,12}") {
            if let Ok(Address::Sftp(remote)) = parse(&text) {
                prop_assert!(!remote.host.is_empty() && !remote.host.starts_with('-'));
                prop_assert!(remote.user.is_none_or(|user| !user.is_empty() && !user.starts_with('-')));
                prop_assert!(!remote.directory.is_empty() && !remote.directory.contains(&0));
            }
        }

        #[test]
        fn what_is_shown_is_read_as_the_same_address(text in "([a@.-]{1,3}@)?([a-c.-]{1,4}|\\[[:a1%]{1,4}\\]):[@:/\\[\\]~% a.\\\\-]{1,8}|sftp://([a%40.]{1,5}@)?[ab]{1,2}(:[0-9]{1,5})?/[~/%0-9ab]{1,8}") {
            if let Ok(address) = parse(&text) {
                prop_assert_eq!(parse(&address.to_string()), Ok(address.clone()), "{}", address);
                prop_assert_eq!(Address::parse(&OsString::from(&address)), Ok(address));
            }
        }
    }
}
