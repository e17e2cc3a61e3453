//! The words of a recovery kit: a master secret as people can write it down and type it (`spec/2-keys.md`, "Recovery kit").
//!
//! Seven lines of five words: four that carry the secret, and one that tells whether the line is right. All together end with
//! a check that tells whether they belong to this repository.

use super::keys::{Epoch, RepositoryId, Secret};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Lines of words in a kit.
pub const LINES: usize = 7;
/// Words in a line, the last of which checks the others.
pub const LINE_WORDS: usize = 5;
const CARRYING: usize = LINE_WORDS - 1;
const WORD_BITS: usize = 11;
// epoch 2 | secret 32 | check 4, and four zero bits to fill the last word
const EPOCH_LENGTH: usize = 2;
const CHECK: usize = 34;
const LENGTH: usize = 38;
const _: () = assert!(LENGTH * 8 + 4 == LINES * CARRYING * WORD_BITS);
/// Each word is known by so many letters.
const PREFIX: usize = 4;

/// The 2,048 words, sorted: the English list of BIP 39, whose words differ in their first four letters.
static LIST: &str = include_str!("kit-words.txt");

/// What the words of a kit say.
pub struct KitSecret {
    /// The epoch whose secret it is.
    pub epoch: Epoch,
    /// The master secret.
    pub master: Secret,
}

/// Why some words are no kit. It never holds a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KitError {
    /// There are more or fewer words than a kit has.
    #[error("it has {0} words, and {total} belong there", total = LINES * LINE_WORDS)]
    Count(usize),
    /// A word that is not in the list.
    #[error("word {word} of line {line} is not in the list of words")]
    UnknownWord {
        /// The line, from 1.
        line: usize,
        /// The word in it, from 1.
        word: usize,
    },
    /// A line whose last word does not fit the others.
    #[error("line {0} is not right: one of its words is another, or they are in another order")]
    Line(usize),
    /// Every line is right, but not all together, or they belong to another repository.
    #[error("its words belong to another repository, or its lines are in another order")]
    OtherRepository,
}

/// The words of a secret: [`LINES`] lines of [`LINE_WORDS`].
#[must_use]
pub fn words(repository: &RepositoryId, epoch: Epoch, master: &Secret) -> Zeroizing<Vec<String>> {
    let mut bytes = Zeroizing::new([0; LENGTH]);
    bytes[..EPOCH_LENGTH].copy_from_slice(&epoch.to_le_bytes());
    bytes[EPOCH_LENGTH..CHECK].copy_from_slice(&**master);
    let check = check(repository, &bytes[..CHECK]);
    bytes[CHECK..].copy_from_slice(&check);
    let all: Vec<&str> = LIST.lines().collect();
    let numbers = to_numbers(&bytes);
    let lines = numbers.chunks(CARRYING).enumerate().map(|(line, numbers)| {
        let numbers = numbers.iter().copied().chain([line_check(line, numbers)]);
        numbers.map(|number| all.get(usize::from(number)).copied().unwrap_or_default()).collect::<Vec<_>>().join(" ")
    });
    Zeroizing::new(lines.collect())
}

/// Reads the words of a kit of `repository`. Case does not matter, nor what follows the first four letters of a word.
///
/// # Errors
/// [`KitError`].
pub fn read(repository: &RepositoryId, words: &[&str]) -> Result<KitSecret, KitError> {
    if words.len() != LINES * LINE_WORDS {
        return Err(KitError::Count(words.len()));
    }
    let mut numbers = Zeroizing::new(Vec::with_capacity(LINES * CARRYING));
    for (line, words) in words.chunks(LINE_WORDS).enumerate() {
        let (carrying, check) = read_line(line, words)?;
        if line_check(line, &carrying[..]) != check {
            return Err(KitError::Line(line + 1));
        }
        numbers.extend_from_slice(&carrying[..]);
    }
    let bytes = to_bytes(&numbers).ok_or(KitError::OtherRepository)?;
    if !bool::from(check(repository, &bytes[..CHECK])[..].ct_eq(&bytes[CHECK..])) {
        return Err(KitError::OtherRepository);
    }
    let mut master = Zeroizing::new([0; 32]);
    master.copy_from_slice(&bytes[EPOCH_LENGTH..CHECK]);
    Ok(KitSecret { epoch: u16::from_le_bytes([bytes[0], bytes[1]]), master })
}

/// Whether `text` is a word of the list, or its first letters: what tells words of a kit from other text.
#[must_use]
pub fn is_word(text: &str) -> bool {
    number_of(text).is_some()
}

/// The numbers of a line's words: those that carry the secret, and the one that checks them.
fn read_line(line: usize, words: &[&str]) -> Result<(Zeroizing<[u16; CARRYING]>, u16), KitError> {
    let mut numbers = Zeroizing::new([0; LINE_WORDS]);
    for (place, word) in words.iter().enumerate() {
        let unknown = KitError::UnknownWord { line: line + 1, word: place + 1 };
        numbers[place] = number_of(word).ok_or(unknown)?;
    }
    let [first, second, third, fourth, check] = *numbers;
    Ok((Zeroizing::new([first, second, third, fourth]), check))
}

/// The number of a word, known by its first four letters.
fn number_of(word: &str) -> Option<u16> {
    let word = Zeroizing::new(word.to_ascii_lowercase());
    let is_it = |other: &str| match word.get(..PREFIX) {
        Some(prefix) => other.starts_with(prefix) && word.bytes().all(|byte| byte.is_ascii_lowercase()),
        None => *word == other,
    };
    LIST.lines().position(is_it).and_then(|number| u16::try_from(number).ok())
}

/// What tells whether a line was written down right: eleven bits.
fn line_check(line: usize, numbers: &[u16]) -> u16 {
    let mut hasher = blake3::Hasher::new_derive_key("nfz v1 kit line");
    hasher.update(&[line as u8]);
    numbers.iter().for_each(|number| {
        hasher.update(&number.to_le_bytes());
    });
    let hash = hasher.finalize();
    u16::from_le_bytes([hash.as_bytes()[0], hash.as_bytes()[1]]) & 0x7ff
}

/// What tells whether all words belong together, and to this repository.
fn check(repository: &RepositoryId, epoch_and_secret: &[u8]) -> [u8; LENGTH - CHECK] {
    let mut hasher = blake3::Hasher::new_derive_key("nfz v1 kit");
    hasher.update(epoch_and_secret).update(repository);
    let hash = hasher.finalize();
    std::array::from_fn(|at| hash.as_bytes()[at])
}

/// Bits, the highest of each byte first, in runs of eleven; four zero bits fill the last.
fn to_numbers(bytes: &[u8; LENGTH]) -> Zeroizing<Vec<u16>> {
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| u16::from(byte >> (7 - at % 8) & 1));
    let number = |place: usize| (0..WORD_BITS).fold(0, |number, at| number << 1 | bit(place * WORD_BITS + at));
    Zeroizing::new((0..LINES * CARRYING).map(number).collect())
}

/// The bytes that [`to_numbers`] was given; `None` where the bits that fill the last number are not zero.
fn to_bytes(numbers: &[u16]) -> Option<Zeroizing<[u8; LENGTH]>> {
    let bit =
        |at: usize| numbers.get(at / WORD_BITS).map_or(0, |number| number >> (WORD_BITS - 1 - at % WORD_BITS) & 1);
    let byte = |place: usize| (0..8).fold(0u8, |byte, at| byte << 1 | bit(place * 8 + at) as u8);
    let is_filled_with_zeros = (LENGTH * 8..numbers.len() * WORD_BITS).all(|at| bit(at) == 0);
    is_filled_with_zeros.then(|| Zeroizing::new(std::array::from_fn(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kit(epoch: Epoch, secret: u8) -> Vec<String> {
        let lines = words(&[2; 16], epoch, &Zeroizing::new([secret; 32]));
        lines.iter().flat_map(|line| line.split(' ').map(str::to_owned)).collect()
    }

    fn read_back(words: &[String]) -> Result<KitSecret, KitError> {
        read(&[2; 16], &words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    #[test]
    fn the_list_is_that_of_bip_39() {
        let words: Vec<&str> = LIST.lines().collect();
        assert_eq!((words.len(), words[0], words[2047]), (2048, "abandon", "zoo"));
        assert!(words.is_sorted());
        let prefixes: std::collections::BTreeSet<&str> = words.iter().map(|word| &word[..word.len().min(4)]).collect();
        assert_eq!(prefixes.len(), 2048);
        assert!(words.iter().enumerate().all(|(at, word)| number_of(word) == Some(at as u16)));
    }

    #[test]
    fn a_wrong_word_is_found_in_its_line() {
        let good = kit(3, 9);
        let mut missed = 0;
        for at in 0..good.len() {
            let mut wrong = good.clone();
            wrong[at] = LIST.lines().nth((usize::from(number_of(&good[at]).unwrap()) + 1) % 2048).unwrap().to_owned();
            match read_back(&wrong) {
                Err(KitError::Line(line)) => assert_eq!(line, at / LINE_WORDS + 1),
                Err(KitError::OtherRepository) => missed += 1,
                other => panic!("{:?}", other.err()),
            }
            wrong[at] = "nfz".into();
            let place = KitError::UnknownWord { line: at / LINE_WORDS + 1, word: at % LINE_WORDS + 1 };
            assert_eq!(read_back(&wrong).err(), Some(place));
        }
        assert_eq!(missed, 0);
    }

    #[test]
    fn lines_and_words_in_another_order_are_noticed() {
        let good = kit(0, 1);
        for at in 1..good.len() {
            let mut swapped = good.clone();
            swapped.swap(at - 1, at);
            assert!(swapped == good || read_back(&swapped).is_err(), "{at}");
        }
        let mut lines = good.clone();
        lines.rotate_left(LINE_WORDS);
        assert!(read_back(&lines).is_err());
        assert_eq!(read_back(&good[1..]).err(), Some(KitError::Count(34)));
    }

    #[test]
    fn a_kit_of_another_repository_is_told_from_a_mistake() {
        let good = kit(0, 1);
        let words: Vec<&str> = good.iter().map(String::as_str).collect();
        assert_eq!(read(&[3; 16], &words).err(), Some(KitError::OtherRepository));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back(secret: [u8; 32], repository: [u8; 16], epoch: u16, upper: bool, cut: bool) {
            let lines = words(&repository, epoch, &Zeroizing::new(secret));
            prop_assert_eq!(lines.len(), LINES);
            let text = if upper { lines.join(" ").to_uppercase() } else { lines.join(" ") };
            let typed: Vec<&str> = text.split(' ').map(|word| if cut { &word[..word.len().min(4)] } else { word }).collect();
            let found = read(&repository, &typed).ok().unwrap();
            prop_assert_eq!((found.epoch, *found.master), (epoch, secret));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in prop::collection::vec("\\PC{0,6}", 30..40)) {
            let words: Vec<&str> = text.iter().map(String::as_str).collect();
            prop_assert!(read(&[0; 16], &words).is_err());
        }
    }
}
