//! Makes all vectors. Each negative one is a positive one with one thing wrong.

use super::{Vector, parts::*};
use std::collections::BTreeMap;

/// All vectors by name.
pub fn all() -> BTreeMap<String, Vector> {
    let mut made = Made::default();
    made.keys_and_lengths();
    made.slots();
    made.keyrings();
    made.kits();
    made.epochs();
    made.objects();
    made.payloads();
    made.cuts();
    made.segments();
    made.segment_files();
    made.roots();
    made.configurations();
    made.removed();
    made.names();
    made.0
}

fn lines(pairs: &[(&str, String)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_string(), value.clone())).collect()
}

#[derive(Default)]
struct Made(BTreeMap<String, Vector>);

impl Made {
    fn put(&mut self, expect: &str, kind: &str, name: &str, rest: Vec<(String, String)>) {
        let name = format!("{kind} {name}").replace(' ', "-");
        let mut all = lines(&[("expect", expect.into()), ("kind", kind.into())]);
        all.extend(rest);
        assert!(self.0.insert(name.clone(), Vector(all)).is_none(), "{name} twice");
    }

    fn put_with_keys(&mut self, expect: &str, kind: &str, name: &str, rest: Vec<(String, String)>) {
        let mut all = lines(&[("master", hex(&MASTER)), ("repo_id", hex(&REPOSITORY))]);
        all.extend(rest);
        self.put(expect, kind, name, all);
    }

    fn keys_and_lengths(&mut self) {
        let mut purposes: Vec<String> = Vec::new();
        for use_of_key in ["id", "seal", "nonce"] {
            purposes.extend(KINDS.iter().map(|kind| format!("{use_of_key} {kind}")));
        }
        purposes.extend(["id content", "cdc gate", "pack cut", "segment cut"].map(String::from));
        let mut all: Vec<_> = purposes.into_iter().map(|purpose| (purpose.clone(), hex(&subkey(&purpose)))).collect();
        all.push(("cdc gear".into(), hex(&gear())));
        self.put_with_keys("success", "subkeys", "all", all);
        let lengths = [65, 66, 67, 100, 127, 128, 129, 200, 1000, 1024, 1025, 4097, 65_536, 100_000, 1 << 20, 16 << 20];
        let all = lengths.map(|length| ("padme".to_string(), format!("{length} {}", padme(length)))).to_vec();
        self.put("success", "padding", "lengths", all);
    }

    fn slot(&mut self, expect: &str, name: &str, slot: &[u8], password: Option<&[u8]>, key_file: Option<&[u8]>) {
        let mut all = lines(&[("slot", hex(slot))]);
        all.extend(password.map(|bytes| ("password".to_string(), hex(bytes))));
        all.extend(key_file.map(|bytes| ("key_file".to_string(), hex(bytes))));
        self.put_with_keys(expect, "slot", name, all);
    }

    fn keyring(&mut self, expect: &str, name: &str, keyring: &[u8], newest: &[u8; 32], older: &[u8]) {
        let rest = [("keyring", hex(keyring)), ("master", hex(newest)), ("older", hex(older))];
        self.put(expect, "keyring", name, lines(&rest));
    }

    fn keyrings(&mut self) {
        let (malformed, altered) = ("malformed keyring", "altered keyring");
        let older = [MASTER, [0x66; 32]].concat();
        let (first, third) = (keyring(&MASTER, &NEXT_MASTER), keyring(&older, &NEXT_MASTER));
        self.keyring("success", "of the second epoch", &first, &NEXT_MASTER, &MASTER);
        self.keyring("success", "of the third epoch", &third, &NEXT_MASTER, &older);
        self.keyring(altered, "under another secret", &first, &MASTER, b"");
        let none = keyring(b"", &NEXT_MASTER);
        self.keyring(malformed, "of the first epoch", &none, &NEXT_MASTER, b"");
        for (expect, name, at) in [
            (malformed, "altered magic", 0),
            ("unknown version", "altered version", 4),
            (malformed, "altered zero", 5),
            (malformed, "altered epoch", 6),
            (altered, "altered repository", 8),
            (altered, "altered nonce", 24),
            (altered, "altered secret", 48),
            (altered, "altered tag", first.len() - 1),
        ] {
            let mut wrong = first.clone();
            wrong[at] ^= 1;
            self.keyring(expect, name, &wrong, &NEXT_MASTER, b"");
        }
        self.keyring(malformed, "cut", &first[..first.len() - 1], &NEXT_MASTER, b"");
        self.keyring(malformed, "appended", &[&first[..], b"\0"].concat(), &NEXT_MASTER, b"");
        self.keyring(malformed, "empty", b"", &NEXT_MASTER, b"");
        self.keyring(malformed, "four bytes", b"NFZR", &NEXT_MASTER, b"");
    }

    fn kit(&mut self, expect: &str, name: &str, words: &[&str], epoch: u16) {
        let words = ("words", words.join(" "));
        let rest = [("repo_id", hex(&REPOSITORY)), words, ("epoch", epoch.to_string()), ("master", hex(&MASTER))];
        self.put(expect, "kit", name, lines(&rest));
    }

    fn kits(&mut self) {
        let good = kit_words(&kit_bytes(0));
        self.kit("success", "of the first epoch", &good, 0);
        self.kit("success", "of a later epoch", &kit_words(&kit_bytes(515)), 515);
        let short: Vec<&str> = good.iter().map(|word| &word[..word.len().min(4)]).collect();
        self.kit("success", "four letters", &short, 0);
        let upper: Vec<String> = good.iter().map(|word| word.to_uppercase()).collect();
        self.kit("success", "upper case", &upper.iter().map(String::as_str).collect::<Vec<_>>(), 0);
        let with = |at: usize, word: &'static str| {
            let mut words = good.clone();
            words[at] = word;
            words
        };
        self.kit("kit", "another word", &with(3, "zoo"), 0);
        self.kit("kit", "another last word of a line", &with(4, "zoo"), 0);
        self.kit("kit", "no word of the list", &with(7, "nfzz"), 0);
        self.kit("kit", "a word too few", &good[1..], 0);
        self.kit("kit", "a word too many", &[&good[..], &["zoo"]].concat(), 0);
        let turned = [&good[5..], &good[..5]].concat();
        self.kit("kit", "lines in another order", &turned, 0);
        let mut other = kit_bytes(0);
        other[37] ^= 1;
        self.kit("kit", "another check", &kit_words(&other), 0);
    }

    /// An object of the second epoch: its name comes from the first secret, its seal from the second.
    fn epochs(&mut self) {
        let plain = b"sealed after a rotation";
        let sealed = Sealed { epoch: 1, ..Sealed::new("data", plain) };
        let both = lines(&[("master", hex(&MASTER)), ("master", hex(&NEXT_MASTER))]);
        let mut turned = both.clone();
        turned.reverse();
        for (expect, name, masters) in [
            ("success", "of the second epoch", both),
            ("not authentic", "of the second epoch with its keys turned", turned),
        ] {
            let mut all = masters;
            all.extend(lines(&[
                ("repo_id", hex(&REPOSITORY)),
                ("object_kind", "data".into()),
                ("id", hex(&sealed.id)),
                ("object", hex(&sealed.bytes())),
                ("plaintext", hex(plain)),
            ]));
            self.put(expect, "object", name, all);
        }
    }

    fn slots(&mut self) {
        let (password, key_file) = (SlotParts::with(1), SlotParts::with(2));
        let both = SlotParts::with(3);
        let (word, file) = (Some(password.password), Some(password.key_file));
        self.slot("success", "password", &password.bytes(), word, None);
        self.slot("success", "key file", &key_file.bytes(), None, file);
        self.slot("success", "both", &both.bytes(), word, file);
        self.slot("success", "password with a key file to spare", &password.bytes(), word, file);
        self.slot("success", "other cost", &SlotParts { cost: [20_000, 2, 3], ..password.clone() }.bytes(), word, None);
        self.slot("wrong credentials", "wrong password", &password.bytes(), Some(b"correct horse\n"), None);
        self.slot("wrong credentials", "wrong key file", &key_file.bytes(), None, Some(b"any file will do"));
        self.slot("wrong credentials", "both wrong key file", &both.bytes(), word, Some(b"?"));
        self.slot("wrong credentials", "both without key file", &both.bytes(), word, None);
        self.slot("wrong credentials", "both without password", &both.bytes(), None, file);
        for (name, at, expect) in [
            ("altered magic", 0, "malformed slot"),
            ("version 3", 4, "unknown version"),
            ("altered repository", 8, "wrong credentials"),
            ("altered epoch", 24, "wrong credentials"),
            ("altered salt", 38, "wrong credentials"),
            ("altered nonce", 70, "altered slot"),
            ("altered commitment", 94, "wrong credentials"),
            ("altered secret", 126, "altered slot"),
            ("altered tag", 173, "altered slot"),
        ] {
            let mut slot = password.bytes();
            slot[at] ^= 2;
            self.slot(expect, name, &slot, word, None);
        }
        self.malformed_slots(&password, &key_file);
    }

    fn malformed_slots(&mut self, password: &SlotParts, key_file: &SlotParts) {
        let (word, file) = (Some(password.password), Some(password.key_file));
        let slot = password.bytes();
        self.slot("malformed slot", "empty", b"", word, None);
        self.slot("malformed slot", "cut", &slot[..173], word, None);
        self.slot("malformed slot", "appended", &[&slot[..], b"\0"].concat(), word, None);
        for (name, kdf, flags) in [
            ("no flags", 1, 0),
            ("unknown flag", 1, 5),
            ("unknown high flag", 1, 0x101),
            ("unknown kdf", 2, 1),
            ("kdf without password", 1, 2),
            ("password without kdf", 0, 3),
        ] {
            let parts = SlotParts { kdf, flags, ..password.clone() };
            self.slot("malformed slot", name, &parts.bytes(), word, file);
        }
        let parts = SlotParts { cost: [19_456, 0, 0], ..key_file.clone() };
        self.slot("malformed slot", "key file with cost", &parts.bytes(), None, file);
        let parts = SlotParts { salt: [1; 32], ..key_file.clone() };
        self.slot("malformed slot", "key file with salt", &parts.bytes(), None, file);
        for (name, cost) in [
            ("too little memory", [19_455, 1, 1]),
            ("too much memory", [1_048_577, 1, 1]),
            ("no passes", [19_456, 0, 1]),
            ("too many passes", [19_456, 17, 1]),
            ("no lanes", [19_456, 1, 0]),
            ("too many lanes", [19_456, 1, 17]),
            ("all the memory there is", [u32::MAX, u32::MAX, u32::MAX]),
            ("large and slow", [1_048_576, 9, 1]),
        ] {
            let parts = SlotParts { cost, stretch: false, ..password.clone() };
            self.slot("absurd cost", name, &parts.bytes(), word, None);
        }
    }

    fn object(&mut self, expect: &str, name: &str, object: &[u8], kind: &str, id: [u8; 32], plaintext: Option<&[u8]>) {
        let mut all = lines(&[("object_kind", kind.into()), ("id", hex(&id)), ("object", hex(object))]);
        all.extend(plaintext.map(|bytes| ("plaintext".to_string(), hex(bytes))));
        self.put_with_keys(expect, "object", name, all);
    }

    fn objects(&mut self) {
        let plain = b"some bytes, and some more, to fill more than the header";
        for kind in KINDS {
            let sealed = Sealed::new(kind, plain);
            self.object("success", kind, &sealed.bytes(), kind, sealed.id, Some(plain));
            for other in KINDS.iter().filter(|other| **other != kind) {
                self.object("not authentic", &format!("{kind} as {other}"), &sealed.bytes(), other, sealed.id, None);
            }
        }
        let sealed = Sealed::new("data", plain);
        let object = sealed.bytes();
        self.object("not authentic", "other id", &object, "data", id("data", b"other"), None);
        self.object(
            "not authentic",
            "id of the same plaintext as a segment",
            &object,
            "data",
            id("segment", plain),
            None,
        );
        let other = Sealed { repository: [0x23; 16], ..sealed.clone() };
        self.object("not authentic", "other repository", &other.bytes(), "data", sealed.id, None);
        let long = object.len() as u32;
        for (expect, name, wrong) in [
            ("header", "magic", Sealed { magic: *b"NFZK", ..sealed.clone() }),
            ("unknown version", "version", Sealed { version: 2, ..sealed.clone() }),
            ("unknown version", "mode", Sealed { mode: 1, ..sealed.clone() }),
            ("unknown epoch", "epoch", Sealed { epoch: 1, ..sealed.clone() }),
            ("length", "stated too long", Sealed { length: Some(long + 1), ..sealed.clone() }),
            ("length", "stated too short", Sealed { length: Some(long - 1), ..sealed.clone() }),
        ] {
            self.object(expect, name, &wrong.bytes(), "data", sealed.id, None);
        }
        self.object("header", "empty", b"", "data", sealed.id, None);
        self.object("header", "too short", &object[..63], "data", sealed.id, None);
        self.object("length", "cut", &object[..object.len() - 1], "data", sealed.id, None);
        self.object("length", "appended", &[&object[..], b"\0"].concat(), "data", sealed.id, None);
        for (name, at) in [("nonce", 12), ("payload", 36), ("padding", object.len() - 17), ("tag", object.len() - 1)] {
            let mut altered = object.clone();
            altered[at] ^= 1;
            self.object("not authentic", &format!("altered {name}"), &altered, "data", sealed.id, None);
        }
    }

    /// Authentic objects with other payloads.
    fn payload(&mut self, expect: &str, name: &str, plain: &[u8], payload: Vec<u8>) {
        let sealed = Sealed { payload, ..Sealed::new("data", plain) };
        let plaintext = (expect == "success").then_some(plain);
        self.object(expect, &format!("payload {name}"), &sealed.bytes(), "data", sealed.id, plaintext);
    }

    fn payloads(&mut self) {
        let plain = "many words, and again many words; ".repeat(40).into_bytes();
        let (frame, bad) = (zstd::bulk::compress(&plain, 3).unwrap(), "malformed payload");
        let good = payload(1, plain.len(), &frame);
        let raw = payload(0, plain.len(), &plain);
        let change = |of: &[u8], at: usize, byte: u8| {
            let mut changed = of.to_vec();
            changed[at] ^= byte;
            changed
        };
        self.payload("success", "zstd", &plain, good.clone());
        self.payload("success", "one byte", b"x", payload(0, 1, b"x"));
        self.payload(bad, "unknown codec", &plain, change(&raw, 0, 2));
        for at in 1..4 {
            self.payload(bad, &format!("zero {at}"), &plain, change(&raw, at, 1));
        }
        let padded = 12 + frame.len();
        assert!(good.len() > padded + 1, "there must be padding to alter");
        self.payload(bad, "first byte of padding", &plain, change(&good, padded, 1));
        self.payload(bad, "last byte of padding", &plain, change(&good, good.len() - 1, 1));
        self.payload(bad, "not padded", &plain, good[..padded].to_vec());
        self.payload(bad, "padded too far", &plain, [&good[..], &[0; 64]].concat());
        self.payload(bad, "raw_len too small", &plain, payload(1, plain.len() - 1, &frame));
        self.payload(bad, "raw_len too large", &plain, payload(1, plain.len() + 1, &frame));
        self.payload(bad, "raw_len over the limit", &plain, payload(1, (12 << 20) + 1, &frame));
        self.payload(bad, "raw_len without zstd", &plain, payload(0, plain.len() + 1, &plain));
        self.payload(bad, "comp_len beyond the payload", &plain, change(&raw, 11, 0x80));
        self.payload(bad, "comp_len one less", &plain, change(&good, 8, 1));
        self.payload(bad, "empty", b"", payload(0, 0, b""));
        self.payload(bad, "empty frame", b"", payload(1, 0, &zstd::bulk::compress(b"", 3).unwrap()));
        self.payload(bad, "other plaintext", b"other", payload(0, plain.len(), &plain));
        self.frames(&plain, &frame);
    }

    fn frames(&mut self, plain: &[u8], frame: &[u8]) {
        let bad = "malformed payload";
        let (first, second) = plain.split_at(100);
        let two = [zstd::bulk::compress(first, 3).unwrap(), zstd::bulk::compress(second, 3).unwrap()].concat();
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
        let mut checked = zstd::bulk::Compressor::new(3).unwrap();
        checked.include_checksum(true).unwrap();
        let checked = checked.compress(plain).unwrap();
        let mut altered = checked.clone();
        *altered.last_mut().unwrap() ^= 1;
        let mut unsized_frame = zstd::bulk::Compressor::new(3).unwrap();
        unsized_frame.include_contentsize(false).unwrap();
        let unsized_frame = unsized_frame.compress(plain).unwrap();
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap();
        let mut lying = frame.to_vec();
        assert_eq!(lying[4] >> 6, 1, "the frame's length must be in two bytes");
        lying[5] ^= 1;
        self.payload("success", "zstd with a checksum", plain, payload(1, plain.len(), &checked));
        for (name, raw, stored) in [
            ("two frames", plain.len(), &two),
            ("skippable frame", plain.len(), &skippable.to_vec()),
            ("skippable frame before", plain.len(), &[&skippable[..], frame].concat()),
            ("skippable frame after", plain.len(), &[frame, &skippable[..]].concat()),
            ("byte after the frame", plain.len(), &[frame, b"\0"].concat()),
            ("frame cut", plain.len(), &frame[..frame.len() - 1].to_vec()),
            ("frame without its length", plain.len(), &unsized_frame),
            ("frame with another length", plain.len(), &lying),
            ("frame with a bad checksum", plain.len(), &altered),
            ("bomb", 12 << 20, &bomb),
            ("no frame", plain.len(), &plain.to_vec()),
        ] {
            self.payload(bad, name, plain, payload(1, raw, stored));
        }
    }

    fn cuts(&mut self) {
        for (stream_name, length, sizes) in [
            ("xof", 8 << 20, [262_144, 1_048_576, 4_194_304]),
            ("text", 8 << 20, [262_144, 1_048_576, 4_194_304]),
            ("zeros", 5 << 20, [262_144, 1_048_576, 4_194_304]),
            ("xof", 1_000_003, [1024, 8192, 32_768]),
            ("text", 500_001, [2048, 16_384, 40_000]),
            ("xof", 1000, [1024, 8192, 32_768]),
        ] {
            let lengths = naive_cuts(&stream(stream_name, length), sizes);
            let [min, average, max] = sizes;
            let all = lines(&[
                ("stream", stream_name.into()),
                ("length", length.to_string()),
                ("sizes", format!("{min} {average} {max}")),
                ("chunks", lengths.join(" ")),
            ]);
            self.put_with_keys("success", "chunks", &format!("{stream_name} {length} {average}"), all);
        }
        let mut all = lines(&[("sizes", "262144 1048576 4194304".into())]);
        let files =
            [(200_000, 262_143), (200_000, 262_144), (200_000, 1_000_000), (100, 300_000), (262_143, 2_000_000)];
        for (at, (length, total)) in files.iter().cycle().take(60).enumerate() {
            let id = [at as u8; 16];
            let below = (length << 32) / (1_048_576 - 262_144);
            let ends = *total >= 262_144 && u64::from(number(&subkey("pack cut"), &id)) < below;
            all.push(("file".into(), format!("{} {length} {total} {}", hex(&id), if ends { "end" } else { "on" })));
        }
        self.put_with_keys("success", "packs", "ends", all);
        let mut all = lines(&[("sizes", "10 4000 1048576".into())]);
        for at in 0..60 {
            let path = format!("dir/file {at}");
            let ends = u64::from(number(&subkey("segment cut"), path.as_bytes())) < (1 << 32) / 10;
            all.push(("path".into(), format!("{path} {}", if ends { "end" } else { "on" })));
        }
        self.put_with_keys("success", "segments", "ends", all);
    }

    fn segment(&mut self, expect: &str, name: &str, bytes: &[u8], good: Option<&SegmentParts>) {
        let mut all = lines(&[("bytes", hex(bytes))]);
        if let Some(good) = good {
            let last = good
                .entries
                .iter()
                .fold(Vec::new(), |before, entry| [&before[..entry.shared as usize], &entry.suffix].concat());
            all.extend(lines(&[("entries", good.entries.len().to_string()), ("last_path", hex(&last))]));
        }
        self.put(expect, "segment", name, all);
    }

    fn good(&mut self, name: &str, parts: &SegmentParts) {
        self.segment("success", name, &parts.encode(), Some(parts));
    }

    /// The base with one thing changed.
    fn bad(&mut self, expect: &str, name: &str, base: &SegmentParts, change: impl FnOnce(&mut SegmentParts)) {
        let mut parts = base.clone();
        change(&mut parts);
        self.segment(expect, name, &parts.encode(), None);
    }

    fn segments(&mut self) {
        let base = base();
        self.good("all kinds", &base);
        let bytes = base.encode();
        self.segment("encoding", "cut", &bytes[..bytes.len() - 1], None);
        self.segment("encoding", "appended", &[&bytes[..], b"\0"].concat(), None);
        self.segment("encoding", "empty", b"", None);
        self.segment("encoding", "number not the shortest", &[&[251, 2, 0], &bytes[1..]].concat(), None);
        self.segment("encoding", "number with a byte that is none", &[&[254], &bytes[1..]].concat(), None);
        self.segment(
            "encoding",
            "list longer than all",
            &[&[253, 0, 0, 0, 0, 0, 0, 0, 128], &bytes[1..]].concat(),
            None,
        );
        let e = "encoding";
        self.bad(e, "owner twice", &base, |s| {
            s.owners.push(1000);
            s.entries[2].owner = 2;
        });
        self.bad(e, "owner that nothing names", &base, |s| s.owners.push(7));
        self.bad(e, "owners out of order", &base, |s| s.entries.iter_mut().for_each(|entry| entry.owner ^= 1));
        self.bad(e, "shares less than it could", &base, |s| {
            s.entries[2].shared = 0;
            s.entries[2].suffix = b"dir/chunked".to_vec();
        });
        self.bad(e, "node that is none", &base, |s| s.entries[1].node = vec![7]);
        self.bad(e, "content that is none", &base, |s| s.entries[3].node = file(0, &[], &bytes_n(3)));
        self.bad(e, "bool that is none", &base, |s| s.entries[3].node = vec![1, 0, 0, 2, 0, 0]);
        self.bad(e, "device number too large", &base, |s| s.entries[3].node = bytes_n(5).ns(&[1 << 32, 0]).0);
        let m = "manifest";
        self.bad(m, "no entries", &base, |s| *s = SegmentParts { chunks: vec![], owners: vec![], entries: vec![] });
        self.bad(m, "shares more than there is", &base, |s| s.entries[1].shared = 1);
        self.bad(m, "owner that is not there", &base, |s| s.entries[2].owner = 2);
        self.bad(m, "mode with thirteen bits", &base, |s| s.entries[2].mode = 0o10644);
        self.bad(m, "mtime with a whole second", &base, |s| s.entries[2].mtime.1 = 1_000_000_000);
        self.bad(m, "ctime with a whole second", &base, |s| s.entries[2].ctime.1 = 1_000_000_000);
        self.bad(m, "attribute without a name", &base, |s| s.entries[1].xattrs[0].0 = b"");
        self.bad(m, "attribute with a zero byte", &base, |s| s.entries[1].xattrs[0].0 = b"a\0b");
        self.bad(m, "attributes out of order", &base, |s| s.entries[1].xattrs.reverse());
        self.bad(m, "attribute twice", &base, |s| s.entries[1].xattrs[1].0 = b"user.a");
        self.bad(m, "source is a file", &base, |s| s.entries[0].node = file(0, &[], &empty()));
        self.bad(m, "link to nothing", &base, |s| s.entries[6].node = link(b""));
        self.bad(m, "link with a zero byte", &base, |s| s.entries[6].node = link(b"a\0"));
        self.bad(m, "link too long", &base, |s| s.entries[6].node = link(&[b'a'; 65_536]));
        self.bad(m, "same path twice", &base, |s| {
            s.entries[4].shared = s.entries[3].shared + s.entries[3].suffix.len() as u64;
            s.entries[4].suffix.clear();
        });
        self.bad(m, "paths out of order", &base, |s| {
            s.entries.truncate(9);
            s.entries[8].shared = 0;
            s.entries[8].suffix = b"a".to_vec();
        });
        self.bad(m, "order with slash as any other byte", &base, |s| {
            let names: [(u64, &[u8]); 3] = [(0, b"a"), (1, b"-b"), (1, b"/c")];
            let entries = names.map(|(shared, suffix)| entry(shared, suffix, DIRECTORY));
            *s = SegmentParts { chunks: vec![], owners: vec![1], entries: entries.to_vec() };
        });
        for (name, path) in BAD_PATHS {
            let entries = vec![entry(0, b"", DIRECTORY), entry(0, path, DIRECTORY)];
            let parts = SegmentParts { chunks: vec![], owners: vec![1], entries };
            self.segment(m, &format!("path {name}"), &parts.encode(), None);
        }
        let parts =
            SegmentParts { chunks: vec![], owners: vec![1], entries: vec![entry(0, vec![b'a'; 1025], DIRECTORY)] };
        self.segment(m, "path with a long component", &parts.encode(), None);
    }

    fn segment_files(&mut self) {
        let base = SegmentParts {
            chunks: vec![(1, 1000, 1100), (2, 500, 600)],
            owners: vec![1],
            entries: vec![entry(0, b"f", file(1500, &[], &chunked(&[0, 1])))],
        };
        self.good("chunked", &base);
        let m = "manifest";
        self.bad(m, "chunk twice", &base, |s| s.chunks[1].0 = 1);
        self.bad(m, "chunk that nothing names", &base, |s| s.chunks.push((3, 1, 65)));
        self.bad(m, "chunks out of order", &base, |s| s.entries[0].node = file(1500, &[], &chunked(&[1, 0])));
        self.bad(m, "chunk that is not there", &base, |s| s.entries[0].node = file(1500, &[], &chunked(&[0, 1, 2])));
        self.bad(m, "chunk without bytes", &base, |s| s.chunks[1].1 = 0);
        self.bad(m, "chunk too large", &base, |s| {
            s.chunks[1].1 = (12 << 20) + 1;
            s.entries[0].node = file(1000 + (12 << 20) + 1, &[], &chunked(&[0, 1]));
        });
        let one = SegmentParts { chunks: vec![(1, 1000, 1100)], ..base.clone() };
        let with = |content: Bytes, size, extents: &[(u64, u64)]| SegmentParts {
            entries: vec![entry(0, b"f", file(size, extents, &content))],
            ..one.clone()
        };
        let none = |size, extents: &[(u64, u64)]| SegmentParts { chunks: vec![], ..with(empty(), size, extents) };
        for (name, parts) in [
            ("packed to the end", with(packed(0, 900, 100), 100, &[])),
            ("packed with holes", with(packed(0, 0, 30), 60, &[(0, 10), (20, 20), (10, 0)])),
            ("chunked with a hole at the end", with(chunked(&[0]), 1 << 40, &[(1000, (1 << 40) - 1000)])),
            ("one chunk three times", with(chunked(&[0, 0, 0]), 3000, &[])),
            ("a hole alone", none(u64::MAX, &[(0, u64::MAX)])),
            ("an empty file", none(0, &[])),
        ] {
            self.good(name, &parts);
        }
        for (name, parts) in [
            ("packed beyond its pack", with(packed(0, 901, 100), 100, &[])),
            ("packed with an offset that overflows", with(packed(0, u64::from(u32::MAX), 100), 100, &[])),
            ("packed without bytes", with(packed(0, 0, 0), 0, &[])),
            ("chunked without chunks", none(0, &[]).with_node(&file(0, &[], &chunked(&[])))),
            ("size too small", with(chunked(&[0]), 999, &[])),
            ("size too large", with(chunked(&[0]), 1001, &[])),
            ("empty with a size", none(1, &[])),
            ("extents with too little data", with(chunked(&[0]), 1009, &[(999, 10)])),
            ("extents with too much data", with(chunked(&[0]), 1011, &[(1001, 10)])),
            ("one extent without a hole", with(chunked(&[0]), 1000, &[(1000, 0)])),
            ("extent without data", with(chunked(&[0]), 1020, &[(500, 10), (0, 5), (500, 5)])),
            ("extent without a hole", with(chunked(&[0]), 1010, &[(500, 0), (500, 10)])),
            ("last extent with nothing", with(chunked(&[0]), 1010, &[(1000, 10), (0, 0)])),
            ("hole that overflows", with(chunked(&[0]), 999, &[(1000, u64::MAX)])),
            ("data that overflow", with(chunked(&[0]), 1000, &[(u64::MAX, 1), (1001, 0)])),
            ("too many extents", {
                let extents: Vec<_> = (0..16_385).map(|_| (1, 1)).collect();
                let chunks = vec![(1, 16_385, 16_500)];
                SegmentParts { chunks, ..with(chunked(&[0]), 2 * 16_385, &extents) }
            }),
            ("too many chunks", with(chunked(&[0; 16_385]), 16_385_000, &[])),
        ] {
            self.segment(m, name, &parts.encode(), None);
        }
        self.segment_parts(&base);
    }

    fn segment_parts(&mut self, base: &SegmentParts) {
        let first = part(1500, 0, true, &[], &chunked(&[0]));
        let second = part(1500, 1, false, &[], &chunked(&[1]));
        let two = SegmentParts { entries: vec![entry(0, b"f", &first), entry(1, b"", &second)], ..base.clone() };
        self.good("two parts", &two);
        let hole = part(1500, 1, false, &[(0, 500)], &empty());
        let chunks = vec![(1, 1000, 1100)];
        self.good("a part that is a hole", &SegmentParts { chunks: chunks.clone(), ..two.with_last(&hole) });
        self.good(
            "ends while a part is due",
            &SegmentParts { chunks: chunks.clone(), entries: two.entries[..1].to_vec(), ..base.clone() },
        );
        self.good(
            "begins with a later part",
            &SegmentParts {
                chunks: vec![(2, 500, 600)],
                entries: vec![entry(0, b"f", part(1500, 7, false, &[], &chunked(&[0])))],
                ..base.clone()
            },
        );
        let m = "manifest";
        self.bad(m, "part of another path", &two, |s| s.entries[1] = entry(1, b"2", &second));
        self.bad(m, "part after the last", &two, |s| {
            s.entries[0].node = part(1500, 0, false, &[(1000, 500)], &chunked(&[0]))
        });
        self.bad(m, "part left out", &two, |s| s.entries[1].node = part(1500, 2, false, &[], &chunked(&[1])));
        self.bad(m, "part twice", &two, |s| s.entries[1].node = part(1500, 0, false, &[(500, 1000)], &chunked(&[1])));
        self.bad(m, "parts with two sizes", &two, |s| s.entries[1].node = part(1501, 1, false, &[], &chunked(&[1])));
        self.bad(m, "parts with two modes", &two, |s| s.entries[1].mode = 0o600);
        self.bad(m, "parts with two times", &two, |s| s.entries[1].mtime.0 += 1);
        self.bad(m, "parts with two link groups", &two, |s| s.entries[1].link_group = 1);
        self.bad(m, "part with another after it that is none", &two, |s| s.entries[1].node = DIRECTORY.to_vec());
        self.bad(m, "part longer than the file", &two, |s| {
            s.entries[1].node = part(1500, 1, false, &[(500, 1001)], &chunked(&[1]));
        });
        let alone = |node: Vec<u8>| SegmentParts {
            entries: vec![entry(0, b"f", node)],
            chunks: chunks.clone(),
            ..base.clone()
        };
        let packed = alone(part(1500, 0, true, &[], &packed(0, 0, 1000)));
        self.segment(m, "packed part", &packed.encode(), None);
        let empty = SegmentParts { chunks: vec![], ..alone(part(1500, 0, true, &[], &empty())) };
        self.segment(m, "empty part", &empty.encode(), None);
        let last = alone(part(1500, u64::from(u32::MAX), true, &[], &chunked(&[0])));
        self.segment(m, "part with the last number and more", &last.encode(), None);
    }

    fn root(&mut self, expect: &str, name: &str, bytes: &[u8], segments: usize) {
        self.put(expect, "snapshot root", name, lines(&[("bytes", hex(bytes)), ("segments", segments.to_string())]));
    }

    fn roots(&mut self) {
        let base = Root::default();
        let bytes = base.encode();
        self.root("success", "all fields", &bytes, 3);
        let checkpoint = Root { complete: 0, ..base.clone() };
        self.root("success", "checkpoint", &checkpoint.encode(), 3);
        let same = Root { segments: vec![(5, b""), (3, b"a/b"), (1, b"a/b")], ..base.clone() };
        self.root("success", "one path first twice", &same.encode(), 3);
        self.root("unknown version", "later format", &[&[2], &bytes[1..]].concat(), 0);
        for (name, bytes) in [
            ("empty", vec![]),
            ("cut", bytes[..bytes.len() - 1].to_vec()),
            ("appended", [&bytes[..], b"\0"].concat()),
            ("bool that is none", Root { complete: 2, ..base.clone() }.encode()),
        ] {
            self.root("encoding", name, &bytes, 0);
        }
        for (name, root) in [
            ("time", Root { nanoseconds: 1_000_000_000, ..base.clone() }),
            ("no segments", Root { segments: vec![], totals: [0; 5], ..base.clone() }),
            ("does not begin with the source", Root { segments: vec![(9, b"a")], ..base.clone() }),
            ("segments out of order", Root { segments: vec![(5, b""), (3, b"b"), (1, b"a")], ..base.clone() }),
            (
                "order with slash as any other byte",
                Root { segments: vec![(5, b""), (3, b"a-"), (1, b"a/")], ..base.clone() },
            ),
            (
                "segments with slash as any other byte",
                Root { segments: vec![(5, b""), (3, b"a-"), (1, b"a/b")], ..base.clone() },
            ),
            ("segment without entries", Root { segments: vec![(9, b""), (0, b"a")], ..base.clone() }),
            ("segment with too many entries", Root { segments: vec![(65_537, b"")], ..base.clone() }),
            ("first path that leads outside", Root { segments: vec![(5, b""), (4, b"a/../b")], ..base.clone() }),
            ("more entries than segments hold", Root { totals: [10, 4, 2, 0, 0], ..base.clone() }),
            ("more files than entries", Root { totals: [9, 6, 4, 0, 0], ..base.clone() }),
            ("files that overflow", Root { totals: [9, u64::MAX, 1, 0, 0], ..base.clone() }),
            ("follows too many", Root { follows: 65, ..base.clone() }),
            ("too many sparse packs", Root { sparse: 257, ..base.clone() }),
        ] {
            self.root("manifest", name, &root.encode(), 0);
        }
    }

    fn config(&mut self, expect: &str, name: &str, role: &str, bytes: &[u8]) {
        let all = lines(&[("as", role.into()), ("bytes", hex(bytes)), ("generation", "3".into())]);
        self.put(expect, "configuration", name, all);
    }

    fn configurations(&mut self) {
        const GOOD: [u64; 12] = [
            262_144, 1_048_576, 4_194_304, 262_144, 262_144, 1_048_576, 4_194_304, 8192, 16_384, 1000, 4000, 1_048_576,
        ];
        let encode = |nanoseconds, sizes: [u64; 12], reader: &[u64], writer: &[u64]| {
            let to = bytes().n(3).time((1_700_000_000, nanoseconds)).ns(&sizes);
            to.n(reader.len() as u64).ns(reader).n(writer.len() as u64).ns(writer).0
        };
        let good = encode(0, GOOD, &[], &[]);
        self.config("success", "as made", "writer", &good);
        self.config("success", "writer feature to a reader", "reader", &encode(0, GOOD, &[], &[1]));
        self.config("success", "odd sizes to a reader", "reader", &encode(0, [1; 12], &[], &[]));
        self.config("unknown feature", "writer feature", "writer", &encode(0, GOOD, &[], &[1]));
        self.config("unknown feature", "reader feature", "reader", &encode(0, GOOD, &[9], &[]));
        self.config("configuration", "time", "reader", &encode(1_000_000_000, GOOD, &[], &[]));
        self.config("encoding", "cut", "reader", &good[..good.len() - 1]);
        self.config("encoding", "appended", "reader", &[&good[..], b"\0"].concat());
        self.config("encoding", "size too large for its type", "reader", &encode(0, [1 << 32; 12], &[], &[]));
        for (name, at, value) in [
            ("odd chunk size", 1, 1_048_577),
            ("small chunks", 0, 1022),
            ("chunk average close to the least", 1, 266_238),
            ("chunk average is the most", 1, 4_194_304),
            ("large chunks", 2, (12 << 20) + 2),
            ("packs of nothing", 3, 0),
            ("packed files larger than packs", 3, 4_194_305),
            ("pack average is the least", 5, 262_144),
            ("pack average is the most", 5, 4_194_304),
            ("large packs", 6, (12 << 20) + 1),
            ("packs without files", 7, 0),
            ("packs without reach", 8, 0),
            ("segments without entries", 9, 0),
            ("segment average over the most", 9, 4001),
            ("large segments", 10, 65_537),
            ("small segments", 11, 1023),
            ("heavy segments", 11, (4 << 20) + 1),
        ] {
            let mut sizes = GOOD;
            sizes[at] = value;
            self.config("configuration", name, "writer", &encode(0, sizes, &[], &[]));
        }
    }

    /// Page 1, "Trash and forgotten".
    fn removed(&mut self) {
        let ids = |ids: &[u8]| ids.iter().fold(bytes().n(ids.len() as u64), |bytes, id| bytes.raw([*id; 32])).0;
        for (kind, head) in [("set aside", &[7; 16][..]), ("forgotten", &[])] {
            let record = |format: u64, list: Vec<u8>| bytes().n(format).raw(head).raw(list).0;
            let good = record(1, ids(&[1, 2, 200]));
            for (expect, name, record) in [
                ("success", "three", good.clone()),
                ("success", "one", record(1, ids(&[5]))),
                ("unknown version", "later format", record(2, ids(&[1]))),
                ("record", "nothing", record(1, ids(&[]))),
                ("record", "out of order", record(1, ids(&[2, 1]))),
                ("record", "twice the same", record(1, ids(&[1, 1]))),
                ("encoding", "cut", good[..good.len() - 1].to_vec()),
                ("encoding", "appended", [&good[..], b"\0"].concat()),
            ] {
                self.removal(expect, kind, name, &record);
            }
        }
    }

    fn removal(&mut self, expect: &str, kind: &str, name: &str, record: &[u8]) {
        let mut all = lines(&[("bytes", hex(record))]);
        if expect == "success" {
            all.extend(lines(&[("ids", if name == "three" { "3" } else { "1" }.into())]));
        }
        self.put(expect, kind, name, all);
    }

    fn names(&mut self) {
        let long = vec![b'a'; 1024];
        let longest = [vec![b'/'; 1], long.clone()].concat().repeat(64)[1..][..65_535].to_vec();
        for (name, path) in [
            ("source", &b""[..]),
            ("plain", b"a/b/c"),
            ("dots within", b"a/.../..b/c."),
            ("no text at all", b"\xff\xfe/\x1b[31m"),
            ("longest component", &long),
            ("longest", &longest[..65_535]),
        ] {
            self.put("success", "path", name, lines(&[("bytes", hex(path))]));
        }
        for (name, path) in BAD_PATHS {
            self.put("path", "path", name, lines(&[("bytes", hex(path))]));
        }
        self.put("path", "path", "component too long", lines(&[("bytes", hex(&[b'a'; 1025]))]));
        self.put("path", "path", "too long", lines(&[("bytes", hex(&[&longest[..], b"a"].concat()))]));
        let id = hex(&REPOSITORY);
        for (expect, name, text) in [
            ("success", "with text", format!("nfz repository\nformat: 1\nid: {id}\n\nfor people\n\u{e9}\n")),
            ("success", "without text", format!("nfz repository\nformat: 1\nid: {id}\n")),
            ("repository file", "empty", String::new()),
            ("repository file", "other first line", format!("nfz\nformat: 1\nid: {id}\n\n")),
            ("repository file", "line ends of another system", format!("nfz repository\r\nformat: 1\r\nid: {id}\r\n")),
            ("unknown version", "later format", format!("nfz repository\nformat: 2\nid: {id}\n\n")),
            ("unknown version", "format with a zero before", format!("nfz repository\nformat: 01\nid: {id}\n\n")),
            ("repository file", "no id", "nfz repository\nformat: 1\n\n".into()),
            ("repository file", "upper case", format!("nfz repository\nformat: 1\nid: {}\n\n", "AB".repeat(16))),
            ("repository file", "id too short", format!("nfz repository\nformat: 1\nid: {}\n\n", &id[..30])),
            ("repository file", "id too long", format!("nfz repository\nformat: 1\nid: {id}00\n\n")),
            ("repository file", "too long", format!("nfz repository\nformat: 1\nid: {id}\n\n{}", "a".repeat(4096))),
        ] {
            self.put(
                expect,
                "repository file",
                name,
                lines(&[("bytes", hex(text.as_bytes())), ("repo_id", id.clone())]),
            );
        }
    }
}

const BAD_PATHS: [(&str, &[u8]); 9] = [
    ("absolute", b"/a"),
    ("slash alone", b"/"),
    ("slash at the end", b"a/"),
    ("two slashes", b"a//b"),
    ("dot", b"."),
    ("dot within", b"a/./b"),
    ("two dots", b".."),
    ("two dots within", b"a/../../b"),
    ("zero byte", b"a\0b"),
];

fn bytes_n(value: u64) -> Bytes {
    bytes().n(value)
}

/// A segment with an entry of every kind.
fn base() -> SegmentParts {
    let entries = vec![
        entry(0, b"", DIRECTORY),
        EntryParts {
            mode: 0o7755,
            owner: 1,
            xattrs: vec![(b"user.a", b"1".to_vec()), (b"user.b", vec![])],
            ..entry(0, b"dir", DIRECTORY)
        },
        entry(3, b"/chunked", file(900_000, &[], &chunked(&[0]))),
        EntryParts { mtime: (i64::MIN, 0), ctime: (i64::MAX, 0), ..entry(4, b"empty", file(0, &[], &empty())) },
        EntryParts { link_group: u64::MAX, ..entry(4, b"hard link", file(40, &[], &packed(1, 0, 40))) },
        EntryParts { link_group: u64::MAX, ..entry(13, b" too", file(40, &[], &packed(1, 0, 40))) },
        entry(4, b"link", link(b"../../etc/passwd")),
        entry(4, b"sparse", file(1 << 33, &[(0, 1 << 32), (60, (1 << 32) - 60)], &packed(1, 40, 60))),
        entry(3, b"-fifo", bytes_n(3).0),
        entry(4, b"socket", bytes_n(4).0),
        entry(3, b".console", bytes_n(5).ns(&[5, 1]).0),
        entry(4, b"disk", bytes_n(6).ns(&[8, u64::from(u32::MAX)]).0),
    ];
    SegmentParts { chunks: vec![(9, 900_000, 901_000), (8, 100, 180)], owners: vec![1000, 0], entries }
}

impl SegmentParts {
    fn with_node(&self, node: &[u8]) -> Self {
        self.with_last(node)
    }

    fn with_last(&self, node: &[u8]) -> Self {
        let mut changed = self.clone();
        changed.entries.last_mut().unwrap().node = node.to_vec();
        changed
    }
}

/// A snapshot root being made.
#[derive(Clone)]
struct Root {
    nanoseconds: u32,
    totals: [u64; 5],
    complete: u64,
    follows: usize,
    sparse: usize,
    segments: Vec<(u64, &'static [u8])>,
}

impl Default for Root {
    fn default() -> Self {
        Self {
            nanoseconds: 5,
            totals: [9, 4, 2, 1 << 40, 1],
            complete: 1,
            follows: 64,
            sparse: 256,
            segments: vec![(5, b""), (3, b"a/b"), (1, b"a-b")],
        }
    }
}

impl Root {
    fn encode(&self) -> Vec<u8> {
        let to = bytes().n(1).time((1_700_000_000, self.nanoseconds)).bytes("host").bytes("user").bytes("/home/user");
        let to = to.bytes(b"").bytes("nfz 0.1.0").ns(&self.totals).n(self.complete).n(300);
        let to = to.n(self.follows as u64).raw(vec![3; 32 * self.follows]);
        let to = to.n(self.sparse as u64).raw(vec![4; 32 * self.sparse]).n(self.segments.len() as u64);
        self.segments.iter().fold(to, |to, (entries, path)| to.raw([7; 32]).n(5000).n(*entries).bytes(path)).0
    }
}

fn number(key: &[u8; 32], data: &[u8]) -> u32 {
    let hash = blake3::keyed_hash(key, data);
    u32::from_le_bytes(hash.as_bytes()[..4].try_into().unwrap())
}

/// Page 4, byte by byte.
fn naive_cuts(data: &[u8], sizes: [usize; 3]) -> Vec<String> {
    let gear: Vec<u64> = gear().chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap())).collect();
    let gate = subkey("cdc gate");
    let mut rest = data;
    let mut lengths = Vec::new();
    while !rest.is_empty() {
        let length = naive_cut(rest, sizes, &gear, &gate);
        lengths.push(length.to_string());
        rest = &rest[length..];
    }
    lengths
}

fn naive_cut(data: &[u8], [min, average, max]: [usize; 3], gear: &[u64], gate: &[u8; 32]) -> usize {
    let n = ((average - min) / 1024) as u64;
    let one_in = |count: u64| ((1u64 << 32) / count).min((1 << 32) - 1) as u32;
    let (early, late) = (one_in(2 * n), one_in(n / 2));
    let limit = data.len().min(max);
    let mut hash = 0u64;
    for at in min..limit {
        hash = (hash << 1).wrapping_add(gear[usize::from(data[at])]);
        if hash & 0x0000_5900_0353_0000 == 0 {
            let threshold = if at < average { early } else { late };
            if number(gate, &data[at - 64..at]) < threshold {
                return at;
            }
            hash = 0;
        }
    }
    limit
}
