//! The tables of `docs/scale.md` are computed here, from the constants of the code and from manifests that are really encoded. A change of
//! either fails until the page is written anew: `NFZ_WRITE_DOCS=1 cargo test --test scale`.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/synthetic.rs"]
mod synthetic;

use nfz::{
    engine::{history::ROOTS_AT_ONCE, presence::LIST_MAX, sync::OLD_FILE_BYTES, tree::SEGMENTS_AHEAD},
    format::{
        config::{Config, SegmentSizes},
        limits::{LISTED_MAX, PLAIN_MAX, SLOTS_MAX},
        manifest::Time,
    },
    repository::ROOTS_AHEAD,
};
use std::{env, fs, path::Path};
use synthetic::{MIXED, Measured, SMALL, Shape};

/// Files of the tree that is really encoded.
const SAMPLE: u64 = 300_000;

// What no constant of the code says was measured; the page says how.

/// Bytes of a name in OpenSSH's answer to READDIR, and names in one answer.
const LISTED_BYTES: f64 = 224.0;
const LISTED_AT_ONCE: f64 = 100.0;
/// Memory that a sync takes at its peak for each pack that it sends.
const SENT_CHUNK_BYTES: f64 = 360.0;
/// Memory of a name of a listed shard. A verify keeps what is listed and what is needed, and compares the two.
const NAME_BYTES: f64 = 70.0;
const VERIFIED_BYTES: f64 = 2.0 * NAME_BYTES + 36.0;
/// Memory of a segment's row in an opened root.
const ROW_BYTES: f64 = 150.0;
/// The seconds of a round trip on a long link.
const ROUND_TRIP: f64 = 0.05;
/// Answers one after the other to read an object: opened, read.
const READ_ANSWERS: f64 = 2.0;

#[test]
fn the_page_on_scale_holds_what_the_code_comes_to() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/scale.md");
    let page = fs::read_to_string(&file).unwrap();
    let written = tables().iter().fold(page.clone(), |page, (name, table)| with_table(&page, name, table));
    if env::var_os("NFZ_WRITE_DOCS").is_some() {
        fs::write(&file, &written).unwrap();
    }
    let now = fs::read_to_string(&file).unwrap();
    assert!(now == written, "docs/scale.md is out of date: NFZ_WRITE_DOCS=1 cargo test --test scale");
}

/// The page with what stands between a table's marks replaced.
fn with_table(page: &str, name: &str, table: &str) -> String {
    let (begin, end) = (format!("<!-- computed: {name} -->\n"), "<!-- end -->".to_owned());
    let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("no table {name} on the page"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("table {name} has no end"));
    format!("{before}{begin}{table}{end}{after}")
}

fn tables() -> Vec<(&'static str, String)> {
    let config = Config::new(Time::default());
    let (mixed, small) = (measured(MIXED, &config), measured(SMALL, &config));
    vec![
        ("entry", entry_table(&mixed, &small)),
        ("mixed", tree_table(&mixed)),
        ("small", tree_table(&small)),
        ("listing", listing_table(&mixed)),
        ("clients", clients_table(&mixed)),
        ("limits", limits_table(&mixed, &config)),
        ("segments", segments_table(&mixed, &config)),
    ]
}

fn measured(shape: Shape, config: &Config) -> Sample {
    Sample(synthetic::measure(shape, SAMPLE, config))
}

/// A tree that was really encoded, and what follows for larger ones.
struct Sample(Measured);

impl Sample {
    fn per_file(&self, what: u64) -> f64 {
        what as f64 / self.0.files as f64
    }
    fn chunks(&self, files: f64) -> f64 {
        files * self.per_file(self.0.chunks)
    }
    fn bytes(&self, files: f64) -> f64 {
        files * self.per_file(self.0.bytes)
    }
    fn segments(&self, files: f64) -> f64 {
        files * self.per_file(self.0.segments.len() as u64)
    }
    fn sealed(&self, files: f64) -> f64 {
        files * self.per_file(self.0.sealed)
    }
    /// Bytes of a root, before compression and sealed.
    fn root(&self, files: f64) -> (f64, f64) {
        (files * self.per_file(self.0.root.0), files * self.per_file(self.0.root.1))
    }
    fn entries_per_segment(&self) -> f64 {
        self.0.entries as f64 / self.0.segments.len() as f64
    }
    fn root_row(&self) -> f64 {
        self.0.root.0 as f64 / self.0.segments.len() as f64
    }
    fn path(&self) -> f64 {
        self.0.path_bytes as f64 / self.0.entries as f64
    }
}

fn entry_table(mixed: &Sample, small: &Sample) -> String {
    let mut table = Table::new(&["", "mixed tree", "small files"]);
    let mut row = |what: &str, of: &dyn Fn(&Sample) -> String| table.row(what, [of(mixed), of(small)]);
    row("mean path, bytes", &|tree| format!("{:.0}", tree.path()));
    row("entries for each file (directories are entries too)", &|tree| format!("{:.2}", tree.per_file(tree.0.entries)));
    row("entries in a segment", &|tree| format!("{:.0}", tree.entries_per_segment()));
    row("manifest before compression, bytes for each file", &|tree| format!("{:.0}", tree.per_file(tree.0.raw)));
    row("manifest as stored, bytes for each file", &|tree| format!("{:.0}", tree.per_file(tree.0.sealed)));
    row("chunks for each file", &|tree| format!("{:.3}", tree.per_file(tree.0.chunks)));
    row("a segment's row in the root before compression, bytes", &|tree| format!("{:.0}", tree.root_row()));
    table.done()
}

fn tree_table(tree: &Sample) -> String {
    let sizes = [1e6, 1e7, 1e8, 1e9];
    let mut table = Table::new(&["", "1 million files", "10 million", "100 million", "1,000 million"]);
    let mut row = |what: &str, of: &dyn Fn(f64) -> String| table.row(what, sizes.map(of));
    let objects = |files: f64| tree.chunks(files) + tree.segments(files) + 1.0;
    row("content", &|files| bytes(tree.bytes(files)));
    row("chunks", &|files| count(tree.chunks(files)));
    row("segments", &|files| count(tree.segments(files)));
    row("objects after the first sync, each an inode", &|files| count(objects(files)));
    row("names in each shard", &|files| count(objects(files) / 256.0));
    row("manifest as stored", &|files| bytes(tree.sealed(files)));
    row("root before compression", &|files| bytes(tree.root(files).0));
    row("root as stored", &|files| bytes(tree.root(files).1));
    row("one root can name that many segments", &|files| yes(tree.root(files).0 <= PLAIN_MAX as f64));
    row("downloaded by a sync that finds nothing new", &|files| bytes(tree.sealed(files) + tree.root(files).1));
    row("answers one after the other for that", &|files| count(waits(tree.segments(files), SEGMENTS_AHEAD)));
    row("they take at 50 ms", &|files| seconds(waits(tree.segments(files), SEGMENTS_AHEAD)));
    row("client memory: old files, once something is new", &|files| bytes(files * OLD_FILE_BYTES as f64));
    row("client memory: chunks sent, first sync", &|files| bytes(tree.chunks(files) * SENT_CHUNK_BYTES));
    row("client memory: verify", &|files| bytes(objects(files) * VERIFIED_BYTES));
    table.done()
}

/// Answers that come one after the other when so many objects are read, so many at once.
fn waits(objects: f64, at_once: usize) -> f64 {
    READ_ANSWERS * (objects / at_once as f64).ceil()
}

/// Answers that come one after the other when a directory is listed: it is opened, then answers are asked for two at once,
/// and after some 250 names 16 at once, until one says that there are no more.
fn answers(names: f64) -> f64 {
    let all = ((names + 2.0) / LISTED_AT_ONCE).ceil() + 1.0;
    1.0 + if all <= 4.0 { (all / 2.0).ceil() } else { 2.0 + ((all - 4.0) / 16.0).ceil() }
}

fn listing_table(mixed: &Sample) -> String {
    let mean = mixed.0.bytes as f64 / mixed.0.chunks as f64;
    let head = [
        "chunks",
        "content",
        "names in a shard",
        "answers one after the other",
        "at 50 ms",
        "bytes, all shards",
        "a sync lists",
    ];
    let mut table = Table::new(&head);
    for chunks in [LIST_MAX as f64, 1e6, 1e7, 1e8, LISTED_MAX as f64 * 256.0, 1e9] {
        let names = chunks / 256.0;
        let lists = match chunks {
            _ if names > LISTED_MAX as f64 => "refused, opening too",
            _ if chunks <= LIST_MAX as f64 => "all shards",
            _ => "one shard, on opening",
        };
        let answers = answers(names);
        let cells = [
            bytes(chunks * mean),
            count(names),
            count(answers),
            seconds(answers),
            bytes(chunks * LISTED_BYTES),
            lists.to_owned(),
        ];
        table.row(&count(chunks), cells);
    }
    table.done()
}

fn clients_table(mixed: &Sample) -> String {
    const KEPT: f64 = 100.0;
    let clients = [1.0, 100.0, 10_000.0];
    let mut table = Table::new(&["", "1 client", "100 clients", "10,000 clients"]);
    let mut row = |what: &str, of: &dyn Fn(f64) -> String| table.row(what, clients.map(of));
    let (root, segments) = (mixed.root(1e6).1, mixed.segments(1e6));
    row("snapshots kept (100 each)", &|clients| count(clients * KEPT));
    row("bytes to list `snapshots/`", &|clients| bytes(clients * KEPT * LISTED_BYTES));
    row("answers one after the other for that", &|clients| count(answers(clients * KEPT)));
    row("`snapshots/` can be listed", &|clients| yes(clients * KEPT <= LISTED_MAX as f64));
    row("roots as stored", &|clients| bytes(clients * KEPT * root));
    row("fetched when its last snapshot is among the newest", &|clients| {
        bytes(root * (clients * KEPT).min(ROOTS_AHEAD as f64))
    });
    row("fetched when it is not", &|clients| bytes(clients * KEPT * root));
    row("answers one after the other for that", &|clients| count(waits(clients * KEPT, ROOTS_AT_ONCE)));
    row("memory for that", &|clients| bytes(clients * KEPT * segments * ROW_BYTES));
    row("passwords or key files, at most", &|_| SLOTS_MAX.to_string());
    row("connections if all sync at once, by default up to", &|clients| count(clients * 4.0));
    table.done()
}

fn limits_table(mixed: &Sample, config: &Config) -> String {
    let mean = mixed.0.bytes as f64 / mixed.0.chunks as f64;
    let mut table = Table::new(&["constant", "value", "what ends there"]);
    let rows = PLAIN_MAX as f64 / mixed.root_row();
    let files = rows * mixed.entries_per_segment() / mixed.per_file(mixed.0.entries);
    let names = LISTED_MAX as f64;
    let mut row = |what: &str, value: String, end: String| table.row(what, [value, end]);
    row(
        "`limits::PLAIN_MAX`",
        exact(PLAIN_MAX),
        format!("a root names {} segments: {} files", count(rows), count(files)),
    );
    row(
        "`limits::LISTED_MAX`",
        exact(LISTED_MAX),
        format!("{} chunks ({}); {} snapshots", count(names * 256.0), bytes(names * 256.0 * mean), count(names)),
    );
    row("`limits::SLOTS_MAX`", SLOTS_MAX.to_string(), "passwords and key files of one repository".into());
    row(
        "`presence::LIST_MAX`",
        exact(LIST_MAX as usize),
        format!(
            "{} of content: beyond it shards are not listed, single names are asked for",
            bytes(LIST_MAX as f64 * mean)
        ),
    );
    row("`repository::ROOTS_AHEAD`", ROOTS_AHEAD.to_string(), "newest roots looked at before all of them are".into());
    row(
        "numbers of chunks in a run, u32",
        count(2f64.powi(32)),
        format!("{} of new content in one sync", bytes(2f64.powi(32) * mean)),
    );
    row(
        "`config.segments`",
        format!("{} … {}", exact(config.segments.average as usize), exact(config.segments.max as usize)),
        format!("{:.0} entries in a segment", mixed.entries_per_segment()),
    );
    table.done()
}

/// How many files one root can hold, by how the manifest is cut: what a repository's configuration may say without a change of the format.
fn segments_table(mixed: &Sample, config: &Config) -> String {
    let mut table = Table::new(&[
        "segments.average",
        "segments.max",
        "segments.bytes_max",
        "entries in a segment",
        "files under one root",
    ]);
    let heavy = SegmentSizes { bytes_max: 4 << 20, ..config.segments };
    for sizes in [
        config.segments,
        SegmentSizes { average: 4000, max: 16_000, ..heavy },
        SegmentSizes { average: 16_000, max: 65_536, ..heavy },
    ] {
        let entries = expected_entries(sizes, mixed);
        let files = PLAIN_MAX as f64 / mixed.root_row() * entries / mixed.per_file(mixed.0.entries);
        let cells = [exact(sizes.max as usize), exact(sizes.bytes_max as usize), count(entries), count(files)];
        table.row(&exact(sizes.average as usize), cells);
    }
    table.done()
}

/// Mean entries of a segment that ends by lot after one in `average`, and by force at the most entries or the most weight.
fn expected_entries(sizes: SegmentSizes, tree: &Sample) -> f64 {
    let weight = 64.0 + tree.path() + 40.0 * (1.0 + tree.per_file(tree.0.chunks));
    let (average, most) = (f64::from(sizes.average), f64::from(sizes.max).min(f64::from(sizes.bytes_max) / weight));
    average * (1.0 - (1.0 - 1.0 / average).powf(most))
}

/// A table in Markdown.
struct Table(String);

impl Table {
    fn new(head: &[&str]) -> Self {
        let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
        Self(line(head.to_vec()) + &line(vec!["---"; head.len()]))
    }
    fn row<const N: usize>(&mut self, what: &str, cells: [String; N]) {
        self.0 += &format!("| {what} | {} |\n", cells.join(" | "));
    }
    fn done(self) -> String {
        self.0
    }
}

/// How long so many answers take on a long link where each waits for the one before.
fn seconds(answers: f64) -> String {
    format!("{} s", significant(answers * ROUND_TRIP))
}

fn yes(is_so: bool) -> String {
    if is_so { "yes".into() } else { "**no**".into() }
}

fn bytes(value: f64) -> String {
    scaled(value, &[(1e15, " PB"), (1e12, " TB"), (1e9, " GB"), (1e6, " MB"), (1e3, " KB"), (1.0, " B")])
}

fn count(value: f64) -> String {
    if value < 999_500.0 { significant(value) } else { scaled(value, &[(1e6, " million")]) }
}

/// A whole number, thousands set apart.
fn exact(value: usize) -> String {
    let digits = value.to_string();
    let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
    groups.iter().map(|group| String::from_utf8_lossy(group)).collect::<Vec<_>>().join(",")
}

fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    let fits = units.iter().find(|(unit, _)| value >= unit * 0.9995).or(units.last());
    fits.map(|(unit, name)| significant(value / unit) + name).unwrap()
}

/// Three digits that count; thousands set apart.
fn significant(value: f64) -> String {
    match value {
        _ if value < 9.995 && value.fract() != 0.0 => format!("{value:.2}"),
        _ if value < 99.95 && value.fract() != 0.0 => format!("{value:.1}"),
        _ if value < 999.5 => format!("{value:.0}"),
        _ => {
            let unit = 10f64.powf(value.log10().floor() - 2.0);
            exact(((value / unit).round() * unit).round() as usize)
        }
    }
}
