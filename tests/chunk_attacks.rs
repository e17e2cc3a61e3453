//! The published ways to learn where chunks end from what a server sees, in a simplified form: they succeed against plain FastCDC
//! with a secret, and fail against real repositories (`spec/4-chunking.md`, "Why so").
//!
//! One looks for the seed that gives a known file the chunks that are listed. The other solves for the gear table with files of two
//! letters, and then says where an unseen file is cut. Both are given more than a server has: the second is told exact lengths, and,
//! against nfz, the gear table itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/engine.rs"]
mod engine;

use engine::{fresh, open, sync};
use fastcdc::v2020::{FastCDC, Normalization, cut_gear};
use nfz::{
    format::{chunker::Chunker, name::Dir, seal::padme},
    repository::Repository,
    store::Store,
};
use std::{collections::BTreeMap, fs, sync::Arc};

const KIB: usize = 1024;
const SIZES: (usize, usize, usize) = (256 * KIB, 1024 * KIB, 4096 * KIB);
/// Bytes of an object beside the plaintext, when that does not compress.
const AROUND: u64 = 64;

fn noise(label: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(label.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// How many objects of which length a server lists.
type Listing = BTreeMap<u64, usize>;

fn listing_of(lengths: impl Iterator<Item = usize>) -> Listing {
    let mut listing = Listing::new();
    lengths.for_each(|length| *listing.entry(padme(AROUND + length as u64)).or_default() += 1);
    listing
}

fn plain_chunks(data: &[u8], seed: u64) -> Vec<usize> {
    let (min, average, max) = SIZES;
    let chunks = FastCDC::with_level_and_seed(data, min, average, max, Normalization::Level1, seed);
    chunks.map(|chunk| chunk.length).collect()
}

/// The candidates whose chunks of `known` are all listed.
fn seeds_that_fit(listing: &Listing, known: &[u8], candidates: std::ops::Range<u64>) -> Vec<u64> {
    let fits = |seed: &u64| {
        // The first chunk tells most of them apart.
        let (min, average, max) = SIZES;
        let mut chunks = FastCDC::with_level_and_seed(known, min, average, max, Normalization::Level1, *seed);
        let first = chunks.next().map_or(0, |chunk| chunk.length);
        if !listing.contains_key(&padme(AROUND + first as u64)) {
            return false;
        }
        let wanted = listing_of(plain_chunks(known, *seed).into_iter());
        wanted.iter().all(|(length, count)| listing.get(length).is_some_and(|listed| listed >= count))
    };
    candidates.filter(fits).collect()
}

async fn listing_of_repository(data: &[u8]) -> Listing {
    let source = tempfile::tempdir().unwrap();
    fs::write(source.path().join("known"), data).unwrap();
    let store = fresh().await;
    sync(Arc::clone(&store) as _, source.path()).await;
    let mut listing = Listing::new();
    for shard in 0..=255 {
        for listed in store.list(Dir::Shard(shard)).await.unwrap() {
            *listing.entry(listed.length).or_default() += 1;
        }
    }
    listing
}

#[tokio::test]
async fn the_seed_of_plain_fastcdc_is_found_from_one_known_file_and_no_seed_explains_a_repository() {
    let known = noise("a file that everyone has", 12 << 20);
    let secret = 387;
    let plain = listing_of(plain_chunks(&known, secret).into_iter());
    assert_eq!(seeds_that_fit(&plain, &known, 0..512), [secret]);
    let real = listing_of_repository(&known).await;
    assert!(real.values().sum::<usize>() > 6, "it has several chunks: {real:?}");
    assert_eq!(seeds_that_fit(&real, &known, 0..512), [0u64; 0]);
}

// ---- files of two letters ----

/// Thirteen low bits: a cut about every 8 KiB, and each bit of a hash depends on lower bits only.
const LOW_BITS: u32 = 13;
const LOW_MASK: u64 = (1 << LOW_BITS) - 1;
const SMALL: (usize, usize, usize) = (2 * KIB, 8 * KIB, 64 * KIB);

/// A file of two letters, without long repetitions.
fn two_letters(label: &str, length: usize) -> Vec<u8> {
    noise(label, length).into_iter().map(|byte| if byte & 1 == 0 { b'a' } else { b'b' }).collect()
}

fn gear_table(secret: &[u8]) -> Vec<u64> {
    secret.chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap())).collect()
}

/// Where plain FastCDC with this secret table ends the chunks of `data`.
fn gear_ends(data: &[u8], gear: &[u64], mask: u64, (min, average, max): (usize, usize, usize)) -> Vec<usize> {
    let shifted: Vec<u64> = gear.iter().map(|value| value << 1).collect();
    let mut ends = Vec::new();
    let mut at = 0;
    while at < data.len() {
        let (_, length) = cut_gear(&data[at..], min, average, max, mask, mask, mask << 1, mask << 1, gear, &shifted);
        at += length;
        ends.push(at);
    }
    ends
}

/// Values of the two letters, as far as the low bits go, that explain every cut. Bit by bit: a hash's lowest bits depend on those of
/// the table alone.
fn solve(data: &[u8], ends: &[usize]) -> Vec<(u64, u64)> {
    // The byte at a cut is the last that the hash has seen: the crate cuts before it. Cuts that no hash of 64 bytes made tell nothing.
    let made = |pair: &[usize]| (SMALL.0 + 64..SMALL.2).contains(&(pair[1] - pair[0])) && pair[1] < data.len();
    let windows: Vec<&[u8]> =
        ends.windows(2).filter(|pair| made(pair)).map(|pair| &data[pair[1] - 63..=pair[1]]).collect();
    let hash = |window: &[u8], a: u64, b: u64| {
        window.iter().fold(0u64, |hash, byte| (hash << 1).wrapping_add(if *byte == b'a' { a } else { b }))
    };
    let mut candidates = vec![(0u64, 0u64)];
    for bit in 0..LOW_BITS {
        let next = candidates.iter().flat_map(|&(a, b)| {
            [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(more_a, more_b): (u64, u64)| (a | more_a << bit, b | more_b << bit))
        });
        let mask = (1u64 << (bit + 1)) - 1;
        candidates = next.filter(|&(a, b)| windows.iter().all(|window| hash(window, a, b) & mask == 0)).collect();
    }
    candidates
}

fn table_of((a, b): (u64, u64)) -> Vec<u64> {
    let mut gear = vec![1; 256];
    (gear[usize::from(b'a')], gear[usize::from(b'b')]) = (a, b);
    gear
}

fn in_common(a: &[usize], b: &[usize]) -> usize {
    a.iter().filter(|end| b.contains(end)).count()
}

#[test]
fn a_secret_gear_table_alone_is_solved_for_with_two_letters_and_says_where_an_unseen_file_is_cut() {
    let secret = gear_table(&noise("secret table", 2048));
    let chosen = two_letters("chosen", 4 << 20);
    let solutions = solve(&chosen, &gear_ends(&chosen, &secret, LOW_MASK, SMALL));
    // With two letters a cut is where one pattern of them is: every odd multiple of the table gives the same.
    let solutions: Vec<_> = solutions.into_iter().filter(|(a, b)| (a ^ b) & 1 == 1).take(4).collect();
    let unseen = two_letters("unseen", 4 << 20);
    let ends = gear_ends(&unseen, &secret, LOW_MASK, SMALL);
    let hits = |solution: &(u64, u64)| in_common(&ends, &gear_ends(&unseen, &table_of(*solution), LOW_MASK, SMALL));
    let best = solutions.iter().map(hits).max().expect("a solution");
    assert!(best * 10 > ends.len() * 9, "{best} of {}", ends.len());
}

/// Ten bits: what nominates (`spec/4-chunking.md`).
const NOMINATE: u64 = 0x0000_5900_0353_0000;

fn real_ends(repository: &Repository, data: &[u8]) -> Vec<usize> {
    let chunker = Chunker::new(repository.keys().cut(), repository.config().chunks);
    let mut ends = Vec::new();
    let mut at = 0;
    while at < data.len() {
        at += chunker.cut(&data[at..]);
        ends.push(at);
    }
    ends
}

#[tokio::test]
async fn the_gear_table_of_a_repository_does_not_say_where_a_file_is_cut() {
    let repository = open(fresh().await as _).await;
    let table = gear_table(&*repository.keys().cut().gear);
    for (label, unseen) in [("letters", two_letters("unseen", 48 << 20)), ("noise", noise("unseen", 48 << 20))] {
        let ends = real_ends(&repository, &unseen);
        let (min, average, max) = SIZES;
        // The best that the table gives: the first nomination after each true cut. One in some thousand is taken.
        let mut hits = 0;
        for pair in ends.windows(2) {
            let rest = &unseen[pair[0]..];
            hits += usize::from(
                gear_ends(&rest[..max.min(rest.len())], &table, NOMINATE, (min, average, max))[0] == pair[1] - pair[0],
            );
        }
        assert!(ends.len() > 20 && hits <= 2, "{label}: {hits} of {}", ends.len());
        let guessed = gear_ends(&unseen, &table, NOMINATE, SIZES);
        assert!(in_common(&ends[..ends.len() - 1], &guessed) <= 3, "{label}");
    }
}
