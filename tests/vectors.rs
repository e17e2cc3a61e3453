//! The vectors in `spec/vectors/`, checked against `nfz::format`, and made: `NFZ_WRITE_VECTORS=1` writes them anew.
//!
//! Keys and objects are made here from the pages of the specification, not with the code that is under test.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "vectors/check.rs"]
mod check;
#[path = "vectors/make.rs"]
mod make;
#[path = "vectors/parts.rs"]
mod parts;

use std::{collections::BTreeMap, fs, path::PathBuf};

/// One vector: its lines in order. The first is `expect`.
#[derive(Clone, Debug, PartialEq)]
pub struct Vector(pub Vec<(String, String)>);

impl Vector {
    /// The value of the first line with this key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.all(key).next()
    }

    /// The values of all lines with this key.
    pub fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(other, _)| other == key).map(|(_, value)| value.as_str())
    }

    /// The bytes that a line holds in hexadecimal digits.
    pub fn bytes(&self, key: &str) -> Vec<u8> {
        let hex = self.get(key).unwrap_or_else(|| panic!("there is no line {key}"));
        unhex(hex)
    }

    /// The number that a line holds.
    pub fn number(&self, key: &str) -> u64 {
        self.get(key).unwrap_or_else(|| panic!("there is no line {key}")).parse().unwrap()
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().map(|line| line.split_once(": ").unwrap_or((line.trim_end_matches(':'), "")));
        Self(lines.map(|(key, value)| (key.to_string(), value.to_string())).collect())
    }

    fn text(&self) -> String {
        let line = |(key, value): &(String, String)| {
            if value.is_empty() { format!("{key}:\n") } else { format!("{key}: {value}\n") }
        };
        self.0.iter().map(line).collect()
    }
}

/// The bytes that hexadecimal digits stand for.
pub fn unhex(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2));
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("spec/vectors")
}

fn stored() -> BTreeMap<String, Vector> {
    let files = fs::read_dir(directory()).unwrap().map(|file| file.unwrap().path());
    let vectors = files.filter(|path| path.extension().is_some_and(|extension| extension == "txt"));
    vectors
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_string();
            (name, Vector::parse(&fs::read_to_string(&path).unwrap()))
        })
        .collect()
}

#[test]
fn every_vector_is_met() {
    let made = make::all();
    if std::env::var_os("NFZ_WRITE_VECTORS").is_some() {
        for (name, vector) in &made {
            fs::write(directory().join(format!("{name}.txt")), vector.text()).unwrap();
        }
    }
    let stored = stored();
    let unmet: Vec<String> = stored
        .iter()
        .filter_map(|(name, vector)| {
            let expected = vector.get("expect").unwrap();
            let found = check::check(vector).err().unwrap_or("success".into());
            (found != expected).then(|| format!("{name}: expected {expected}, found {found}"))
        })
        .collect();
    assert!(unmet.is_empty(), "{unmet:#?}");
    assert!(made.keys().eq(stored.keys()), "the directory holds other vectors than those that are made");
}
