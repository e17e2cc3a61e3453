//! nfz: encrypted, deduplicating backups over nothing but SFTP. This page is the map of its code; `spec/` says what it stores.
//!
//! # Where things are
//!
//! ```text
//! main.rs           parse, run, exit code
//! cli/              a file a verb: arguments → options → printed report
//!   args, positional, address, values, at      what was typed, and what it means
//!   password, new_secret, open                 from an address to an open repository
//!   config, names                              repositories that have names
//!   unattended, log, one_at_a_time, schedule   what runs by itself
//!   key/                                       passwords, key files, rotation, recovery kits
//!   view, progress, figures, json, text        all that is printed
//!   failure, exit                              errors → message, hint, exit code
//! engine/           what nfz does: a file, or a directory, a verb
//!   sync/           walk + old tree → plan → read → assemble → seal → upload → build → commit
//!   restore/        plan → fetch → finish
//!   prune/, forget, undo_forget, retention     what goes, and what stays; trash, named: what was set aside, what is needed
//!   verify, compare, ls, history               is it all there, does it match, what is there, which snapshot
//!   import_nfreezer/                           what another program saved
//!   source/, target/                           a live tree that is read, one that is written
//!   tree, presence                             a manifest that is streamed, what the store has
//!   event, problem, error                      what is told while it goes on, what does not stop it, what does
//! repository.rs     keys + store: init, open, fetch, commit
//! repository/       unlock: slots and keyring → master secrets; slots, rotate: changes of keys
//! store/            named objects: sftp/, dir, memory; foreign: of another program; decorators retry, limit, record, fault; one contract
//! format/           what the bytes mean. One file, one page of the specification, or a part of one
//! clock.rs          what time it is
//! ```
//!
//! | specification | code |
//! |---|---|
//! | 1 Objects | [`format::name`], [`format::id`], [`format::repository_file`], [`format::config`], [`format::limits`], [`format::trash`]; [`store`] |
//! | 2 Keys | [`format::keys`], [`format::keyring`], [`format::kit`] |
//! | 3 Sealing | [`format::seal`] |
//! | 4 Chunking | [`format::chunker`], [`format::segment_writer`] |
//! | 5 Manifest | [`format::encoding`], [`format::path`], [`format::manifest`], [`format::extents`], [`format::snapshot`] |
//! | 6 Operations | [`engine::sync`], [`engine::restore`], [`engine::verify`], [`engine::history`], [`engine::presence`], [`engine::forget`], [`engine::prune`], [`engine::undo_forget`] |
//!
//! Begin with [`engine::sync`] and go down wherever you want to know more.
//!
//! # What is never the case
//!
//! - Nothing points up: cli → engine → repository → store and format. `tests/layers.rs` holds that, and much of what follows.
//! - [`format`] opens no file, reads no clock, draws no random number, and never waits.
//! - A [`store`] knows no key, no chunk, no snapshot: names and bytes.
//! - Nothing locks the repository, and nothing needs a lock: objects come into being whole, under names that stand for their content.
//! - Nothing outside one file names the SFTP crate, and nothing outside the records and their encoding names bincode.
//! - No snapshot is visible before all that it names has been acknowledged, and nothing that one names is ever deleted: `engine/prune/schedules.rs`.
//! - Nothing is decoded before it is authenticated, and nothing is allocated for what is longer than [`format::limits`] says.
//! - Nothing that a repository or a server says is printed as it is, or decides where a restore writes outside its target.
//! - No file and no tree is held in memory: a sync takes some 64 bytes for each file of the old tree, and some 200 for each chunk that it stores.
//! - No CPU work in async tasks, no waiting in rayon jobs. A stage that fails drops its channels, and all others end with it.
//! - No state on the client that matters: what is kept is kept in the repository.
//! - No secret has a `Debug`, or outlives its use.
//! - No `unsafe`, no `unwrap` where something can fail.
//!
//! # Words
//!
//! One word for one thing, the same in specification, code, command line and errors.
//!
//! | word | meaning |
//! |---|---|
//! | repository | the whole encrypted thing behind one address |
//! | store | a dumb service of named objects: an SFTP server, a local directory |
//! | object | one file in a store |
//! | chunk | a piece of plaintext, stored as one object under its keyed hash |
//! | pack | a chunk made of several whole small files |
//! | sealed | the encrypted form of a chunk: what an object holds |
//! | snapshot | a source tree as it was at one time; its small root object |
//! | manifest | the sorted list of a snapshot's entries, held in segments |
//! | segment | a run of manifest entries, stored as one chunk of its own kind |
//! | entry | one file, directory, link or special file |
//! | source | what is backed up |
//! | shard | one of the 256 directories that chunks lie in |
//! | problem | a finding that does not stop the work |
//! | report | the outcome of an operation |

pub mod cli;
pub mod clock;
pub mod engine;
pub mod format;
pub mod repository;
pub mod store;
