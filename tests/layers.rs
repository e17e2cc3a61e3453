//! The layers and their arrows: cli → engine → repository → store, format. Each rule says what some files do *not* name.
//!
//! Code is read as text: comments and each file's tests (from its first `#[cfg(test)]` on) do not count.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A source file without its comments and tests.
struct Source {
    /// Its path below `src`.
    file: String,
    code: String,
    /// Lines up to its tests, comments included.
    lines: usize,
}

impl Source {
    fn new(file: String, text: &str) -> Self {
        let before_tests: Vec<&str> = text.lines().take_while(|line| *line != "#[cfg(test)]").collect();
        let code: Vec<&str> =
            before_tests.iter().map(|line| line.split_once("//").map_or(*line, |(code, _)| code)).collect();
        Self { file, code: code.join("\n"), lines: before_tests.len() }
    }

    /// The module that the file is: `crate::format::id`.
    fn module(&self) -> String {
        let path = self.file.trim_end_matches(".rs").trim_end_matches("/mod");
        if path == "lib" || path == "main" { "crate".into() } else { format!("crate::{}", path.replace('/', "::")) }
    }

    /// Every path that the code names, from its crate on; groups in braces are taken apart.
    fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        for piece in self.code.split_inclusive(';') {
            let place = piece.match_indices("use ").map(|(at, _)| at).find(|&at| is_use(piece, at));
            let (code, tree) = piece.split_at(place.unwrap_or(piece.len()));
            paths.extend(words(code).filter(|word| word.contains("::")).map(str::to_owned));
            if let Some(tree) = tree.strip_prefix("use ") {
                expand("", tree.trim_end_matches(';'), &mut paths);
            }
        }
        paths.iter().map(|path| self.absolute(path)).collect()
    }

    fn absolute(&self, path: &str) -> String {
        let mut module = self.module();
        let mut rest = path.strip_prefix("self::").unwrap_or(path);
        let mut is_relative = rest != path;
        while let Some(above) = rest.strip_prefix("super::") {
            (rest, is_relative) = (above, true);
            module.truncate(module.rfind("::").unwrap_or(module.len()));
        }
        if is_relative { format!("{module}::{rest}") } else { rest.to_owned() }
    }
}

/// Whether the `use ` at `at` begins a statement.
fn is_use(piece: &str, at: usize) -> bool {
    let line = &piece[..at].rsplit('\n').next().unwrap_or_default().trim();
    line.is_empty() || line.starts_with("pub")
}

/// The words of some code: identifiers with the `::` between them.
fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|char: char| !(char.is_alphanumeric() || char == '_' || char == ':'))
        .map(|word| word.trim_matches(':'))
        .filter(|word| !word.is_empty())
}

/// Takes `a::{b, c::d}` apart into `a::b` and `a::c::d`.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((before, group)) = tree.split_once('{') else {
        let name = tree.split_whitespace().next().unwrap_or_default();
        return paths.push(format!("{prefix}{name}"));
    };
    let (prefix, group) = (format!("{prefix}{}", before.trim()), &group[..group.rfind('}').unwrap_or(group.len())]);
    let (mut depth, mut start) = (0, 0);
    for (at, char) in group.char_indices().chain([(group.len(), ',')]) {
        match char {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !group[start..at].trim().is_empty() {
                    expand(&prefix, &group[start..at], paths);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut dirs) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(root.join(&dir)).unwrap() {
            let path = dir.join(entry.unwrap().file_name());
            if root.join(&path).is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(root.join(&path)).unwrap();
                found.push(Source::new(path.to_str().unwrap().to_owned(), &text));
            }
        }
    }
    assert!(found.len() > 50, "the sources were not found");
    found
}

/// Whether `path` is `module` or lies in it.
fn is_in(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Every path that files of `layer` name and `is_allowed` refuses.
fn offences(layer: &str, is_allowed: impl Fn(&str) -> bool) -> Vec<String> {
    let sources = sources();
    let of_layer: Vec<&Source> = sources.iter().filter(|source| is_in(&source.module(), layer)).collect();
    assert!(!of_layer.is_empty(), "{layer} has no files");
    let found = of_layer.iter().flat_map(|source| {
        source.paths().into_iter().filter(|path| !is_allowed(path)).map(|path| format!("{} names {path}", source.file))
    });
    found.collect()
}

/// Of the crate itself a layer may name only these modules.
fn may_name_only(layer: &str, modules: &[&str]) {
    let is_allowed =
        |path: &str| !is_in(path, "crate") || modules.iter().chain([&layer]).any(|module| is_in(path, module));
    assert_eq!(offences(layer, is_allowed), Vec::<String>::new());
}

/// The files, tests left out, that name something in `module`.
fn files_that_name(module: &str) -> Vec<String> {
    let naming = |source: &Source| source.paths().iter().any(|path| is_in(path, module));
    let mut files: Vec<_> = sources().into_iter().filter(naming).map(|source| source.file).collect();
    files.sort();
    files
}

#[test]
fn paths_are_found_in_groups_and_in_the_midst_of_code() {
    let text = "//! crate::no\npub use super::{a::{self, b}, c as d};\nfn f() -> crate::g::H { std::fs::read(x) }\n\
        pub(crate) use e::*;\n#[cfg(test)]\nmod tests { use crate::never; }";
    let source = Source::new("engine/sync/plan.rs".into(), text);
    let sync = "crate::engine::sync";
    let grouped = ["a::self", "a::b", "c"].map(|path| format!("{sync}::{path}"));
    for path in grouped.iter().map(String::as_str).chain(["crate::g::H", "std::fs::read", "e::*"]) {
        assert!(source.paths().iter().any(|found| found == path), "{path} in {:?}", source.paths());
    }
    assert!(!source.paths().iter().any(|path| path.contains("no") || path.contains("never")));
    assert_eq!(source.lines, 4);
}

#[test]
fn format_names_no_other_layer() {
    may_name_only("crate::format", &[]);
}

#[test]
fn format_touches_no_file_no_network_no_clock_no_chance_and_never_waits() {
    let impure = ["std::fs", "std::net", "std::env", "std::process", "std::thread", "std::os", "std::io"];
    let crates = ["tokio", "futures_util", "getrandom", "rustix", "rayon", "jiff", "openssh_sftp_client"];
    let clocks = ["std::time::SystemTime", "std::time::Instant", "SystemTime", "Instant"];
    let is_allowed = |path: &str| !impure.iter().chain(&crates).chain(&clocks).any(|module| is_in(path, module));
    assert_eq!(offences("crate::format", is_allowed), Vec::<String>::new());
}

#[test]
fn a_store_knows_of_the_format_only_names_ids_and_limits() {
    may_name_only("crate::store", &["crate::format::name", "crate::format::id", "crate::format::limits"]);
}

#[test]
fn the_repository_knows_only_format_store_and_clock() {
    may_name_only("crate::repository", &["crate::format", "crate::store", "crate::clock"]);
}

#[test]
fn the_engine_knows_nothing_of_the_command_line() {
    may_name_only("crate::engine", &["crate::repository", "crate::format", "crate::store", "crate::clock"]);
}

#[test]
fn the_clock_knows_only_what_a_time_is() {
    may_name_only("crate::clock", &["crate::format::manifest::Time"]);
}

#[test]
fn one_file_names_the_transport() {
    assert_eq!(files_that_name("openssh_sftp_client"), ["store/sftp/client.rs"]);
}

#[test]
fn only_the_encoding_and_the_records_name_bincode() {
    let files =
        ["format/config.rs", "format/encoding.rs", "format/manifest.rs", "format/snapshot.rs", "format/trash.rs"];
    assert_eq!(files_that_name("bincode"), files);
}

#[test]
fn one_file_reads_the_clock() {
    // Stopwatches (`Instant`) are no clocks: they tell no time. The store in memory plays the server, whose clock it reads.
    let read_it = ["SystemTime::now", "std::time::SystemTime", "Zoned::now", "Timestamp::now", "jiff::Zoned::now"];
    let mut files: Vec<String> = read_it.iter().flat_map(|clock| files_that_name(clock)).collect();
    files.sort();
    files.dedup();
    assert_eq!(files, ["clock.rs", "store/memory.rs"]);
}

#[test]
fn nothing_is_unsafe() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    assert!(manifest.contains("unsafe_code = \"forbid\""));
    let is_unsafe = |source: &Source| words(&source.code).any(|word| word == "unsafe");
    let files: Vec<String> = sources().into_iter().filter(is_unsafe).map(|source| source.file).collect();
    assert_eq!(files, Vec::<String>::new());
}

/// Lines that a file may have without its tests.
const LINES_MAX: usize = 400;
/// Files that have more all the same, and why.
const LONG: [(&str, &str); 5] = [
    ("engine/restore/plan.rs", "the plan, what is judged on the way and the windows share one pass over the manifest"),
    ("engine/verify.rs", "options and report, documented field by field, beside the checks"),
    ("format/keys.rs", "two halves of one page of the specification: subkeys, and key slots"),
    ("format/manifest.rs", "one page of the specification: records, their encoding and their checks"),
    ("repository.rs", "errors, documented one by one, beside init, open and commit"),
];
/// No reason is good enough for more.
const LONG_MAX: usize = 600;

#[test]
fn files_are_short() {
    for source in sources() {
        let is_long = LONG.iter().any(|(file, _)| *file == source.file);
        let Source { file, lines, .. } = source;
        assert!(lines <= if is_long { LONG_MAX } else { LINES_MAX }, "{file} has {lines} lines");
        assert!(!is_long || lines > LINES_MAX, "{file} is short enough now: take it off the list");
    }
}
