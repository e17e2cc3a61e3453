//! `nfz-repository`: the one file in plain text, which says what this is (`spec/1-objects.md`).
//!
//! It is not authenticated, and nothing rests on it: the repository's id counts only as the key slot confirms it.

use super::{
    id::{from_hex, to_hex},
    keys::RepositoryId,
    limits::REPOSITORY_FILE_MAX,
};

/// The version of the whole format.
pub const FORMAT: u32 = 1;

/// Why the file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RepositoryFileError {
    /// It is not ours.
    #[error("it does not say that it is an nfz repository")]
    NotOurs,
    /// A later program wrote it.
    #[error("it has format {0}, which this program does not know: use a newer one")]
    UnknownFormat(String),
}

/// The text of a new file.
#[must_use]
pub fn text(repository: &RepositoryId) -> String {
    format!(
        "nfz repository\nformat: {FORMAT}\nid: {}\n\n\
         This directory is an encrypted backup made by nfz. Its files have no meaning one by one:\n\
         keep them all, under their names. To restore, run `nfz restore ADDRESS TARGET`, or use the\n\
         reference reader that comes with the specification. Both ask for the password.\n",
        to_hex(repository)
    )
}

/// The repository's id. Only the first three lines are looked at; the rest is for people.
///
/// # Errors
/// [`RepositoryFileError`].
pub fn parse(bytes: &[u8]) -> Result<RepositoryId, RepositoryFileError> {
    let mut lines = bytes.split(|&byte| byte == b'\n');
    if lines.next() != Some(b"nfz repository") || bytes.len() as u64 > REPOSITORY_FILE_MAX {
        return Err(RepositoryFileError::NotOurs);
    }
    let format = lines.next().and_then(|line| line.strip_prefix(b"format: ")).ok_or(RepositoryFileError::NotOurs)?;
    if format != FORMAT.to_string().as_bytes() {
        return Err(RepositoryFileError::UnknownFormat(format.escape_ascii().take(20).map(char::from).collect()));
    }
    let id = lines.next().and_then(|line| line.strip_prefix(b"id: ")).and_then(|id| std::str::from_utf8(id).ok());
    id.and_then(from_hex).ok_or(RepositoryFileError::NotOurs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_tells_the_id_and_nothing_else_is_taken_for_it() {
        assert_eq!(parse(text(&[7; 16]).as_bytes()), Ok([7; 16]));
        assert_eq!(parse(b"nfz repository\nformat: 2\n"), Err(RepositoryFileError::UnknownFormat("2".into())));
        assert_eq!(parse(b"something else"), Err(RepositoryFileError::NotOurs));
        assert_eq!(parse(b"nfz repository\nformat: 1\nid: 00\n"), Err(RepositoryFileError::NotOurs));
    }
}
