//! What this implementation makes of a vector: nothing, or the class of failure.

use super::{Vector, parts, unhex};
use nfz::format::{
    chunker::{Chunker, PackCutter, SegmentCutter},
    config::{ChunkSizes, Config, ConfigError, PackSizes, SegmentSizes},
    encoding::EncodingError,
    id::{Kind, ObjectId},
    keyring::{Keyring, KeyringError},
    keys::{Credentials, Keys, Secret, Slot, SlotError},
    kit,
    manifest::{ManifestError, Segment},
    path::TreePath,
    repository_file::{self, RepositoryFileError},
    seal::{OpenError, Opener, padme},
    snapshot::{RootError, SnapshotRoot},
    trash::{ForgottenRecord, SetAsideRecord, TrashError},
};
use zeroize::Zeroizing;

type Checked = Result<(), String>;

/// Judges a vector as its kind asks.
pub fn check(vector: &Vector) -> Checked {
    match vector.get("kind").unwrap() {
        "subkeys" => subkeys(vector),
        "padding" => padding(vector),
        "slot" => slot(vector),
        "keyring" => keyring(vector),
        "kit" => kit(vector),
        "object" => object(vector),
        "chunks" => chunks(vector),
        "packs" => packs(vector),
        "segments" => segments(vector),
        "segment" => segment(vector),
        "snapshot root" => root(vector),
        "configuration" => config(vector),
        "set aside" => removal(SetAsideRecord::decode(&vector.bytes("bytes")).map(|it| it.ids.len()), vector),
        "forgotten" => removal(ForgottenRecord::decode(&vector.bytes("bytes")).map(|it| it.ids.len()), vector),
        "path" => path(vector),
        "repository file" => repository(vector),
        other => Err(format!("unknown kind {other}")),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(found: T, expected: T) -> Checked {
    if found == expected { Ok(()) } else { Err(format!("{found:?} instead of {expected:?}")) }
}

fn keys(vector: &Vector) -> Keys {
    let masters: Vec<Secret> =
        vector.all("master").map(|master| Zeroizing::new(unhex(master).try_into().unwrap())).collect();
    Keys::derive(vector.bytes("repo_id").try_into().unwrap(), &masters).unwrap()
}

fn kind(vector: &Vector) -> Kind {
    match vector.get("object_kind").unwrap() {
        "data" => Kind::Data,
        "segment" => Kind::Segment,
        "snapshot" => Kind::Snapshot,
        "config" => Kind::Config,
        "forgotten" => Kind::Forgotten,
        "set aside" => Kind::SetAside,
        other => panic!("unknown kind of object {other}"),
    }
}

/// Seal and nonce keys show only in objects, and are checked there.
fn subkeys(vector: &Vector) -> Checked {
    let keys = keys(vector);
    let key = |name: &str| <[u8; 32]>::try_from(vector.bytes(name)).unwrap();
    let kinds = [Kind::Data, Kind::Segment, Kind::Snapshot, Kind::Config, Kind::Forgotten, Kind::SetAside];
    for (kind, label) in kinds.into_iter().zip(parts::KINDS) {
        let expected = blake3::keyed_hash(&key(&format!("id {label}")), b"plaintext");
        same(keys.object_id(kind, b"plaintext").0, *expected.as_bytes())?;
    }
    same(&keys.content_id(b"data")[..], &blake3::keyed_hash(&key("id content"), b"data").as_bytes()[..16])?;
    same(&keys.cut().gear[..], &vector.bytes("cdc gear"))?;
    same(*keys.cut().gate, key("cdc gate"))?;
    same(*keys.cut().pack, key("pack cut"))?;
    same(*keys.cut().segment, key("segment cut"))
}

fn padding(vector: &Vector) -> Checked {
    vector.all("padme").try_for_each(|line| {
        let (length, padded) = line.split_once(' ').unwrap();
        same(padme(length.parse().unwrap()), padded.parse().unwrap())
    })
}

fn slot(vector: &Vector) -> Checked {
    let credentials = Credentials {
        password: vector.get("password").map(|hex| Zeroizing::new(unhex(hex))),
        key_file: vector.get("key_file").map(|hex| Credentials::key_file_secret(&unhex(hex))),
    };
    let opened = Slot::parse(&vector.bytes("slot")).and_then(|slot| Ok((slot.open(&credentials)?, slot)));
    let (master, slot) = opened.map_err(|why| match why {
        SlotError::Malformed => "malformed slot",
        SlotError::UnknownVersion(_) => "unknown version",
        SlotError::AbsurdCost(_) => "absurd cost",
        SlotError::NeedsPassword | SlotError::NeedsKeyFile | SlotError::WrongCredentials => "wrong credentials",
        SlotError::Altered => "altered slot",
        SlotError::OutOfMemory => "out of memory",
    })?;
    same(&master[..], &vector.bytes("master"))?;
    same(&slot.repository()[..], &vector.bytes("repo_id"))
}

fn keyring(vector: &Vector) -> Checked {
    let newest: Secret = Zeroizing::new(vector.bytes("master").try_into().unwrap());
    let opened = Keyring::parse(&vector.bytes("keyring")).and_then(|keyring| keyring.open(&newest));
    let older = opened.map_err(|why| match why {
        KeyringError::Malformed => "malformed keyring",
        KeyringError::UnknownVersion(_) => "unknown version",
        KeyringError::NotAuthentic => "altered keyring",
    })?;
    same(older.iter().flat_map(|secret| secret.to_vec()).collect(), vector.bytes("older"))
}

fn kit(vector: &Vector) -> Checked {
    let words: Vec<&str> = vector.get("words").unwrap().split(' ').collect();
    let repository = vector.bytes("repo_id").try_into().unwrap();
    let found = kit::read(&repository, &words).map_err(|_| "kit")?;
    same((u64::from(found.epoch), found.master.to_vec()), (vector.number("epoch"), vector.bytes("master")))?;
    let written = kit::words(&repository, found.epoch, &found.master).join(" ");
    let short = |text: &str| text.split(' ').map(|word| word.chars().take(4).collect()).collect::<Vec<String>>();
    same(short(&written), short(&vector.get("words").unwrap().to_lowercase()))
}

fn object(vector: &Vector) -> Checked {
    let id = ObjectId(vector.bytes("id").try_into().unwrap());
    let opened = Opener::default().open_kind(&keys(vector), kind(vector), id, &vector.bytes("object"));
    let plaintext = opened.map_err(|why| match why {
        OpenError::Header => "header",
        OpenError::Length { .. } => "length",
        OpenError::Unknown { .. } => "unknown version",
        OpenError::UnknownEpoch(_) => "unknown epoch",
        OpenError::NotAuthentic => "not authentic",
        OpenError::Malformed(_) => "malformed payload",
    })?;
    same(plaintext, vector.bytes("plaintext"))
}

fn sizes(vector: &Vector) -> Vec<u32> {
    vector.get("sizes").unwrap().split(' ').map(|number| number.parse().unwrap()).collect()
}

fn chunks(vector: &Vector) -> Checked {
    let [min, average, max] = sizes(vector)[..] else { panic!("three sizes") };
    let chunker = Chunker::new(keys(vector).cut(), ChunkSizes { min, average, max });
    let data = parts::stream(vector.get("stream").unwrap(), vector.number("length") as usize);
    let mut rest = &data[..];
    let mut lengths = Vec::new();
    while !rest.is_empty() {
        let length = chunker.cut(rest);
        lengths.push(length.to_string());
        rest = &rest[length..];
    }
    same(lengths.join(" "), vector.get("chunks").unwrap().to_string())
}

fn packs(vector: &Vector) -> Checked {
    let [min, average, max] = sizes(vector)[..] else { panic!("three sizes") };
    let sizes = PackSizes { file_max: max, min, average, max, files_max: 8192, reach_max: 16_384 };
    let cutter = PackCutter::new(keys(vector).cut(), sizes);
    vector.all("file").try_for_each(|line| {
        let [id, length, total, ends] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("four fields") };
        let id = unhex(id).try_into().unwrap();
        same(cutter.ends_after(&id, length.parse().unwrap(), total.parse().unwrap()), ends == "end")
    })
}

fn segments(vector: &Vector) -> Checked {
    let [average, max, bytes_max] = sizes(vector)[..] else { panic!("three sizes") };
    let cutter = SegmentCutter::new(keys(vector).cut(), SegmentSizes { average, max, bytes_max });
    vector.all("path").try_for_each(|line| {
        let (path, ends) = line.rsplit_once(' ').unwrap();
        same(cutter.ends_after(&TreePath::new(path.as_bytes()).unwrap(), 1, 100), ends == "end")
    })
}

fn encoding(why: &EncodingError) -> String {
    match why {
        EncodingError::Malformed(_) | EncodingError::NotCanonical | EncodingError::TooLarge(_) => "encoding".into(),
    }
}

fn segment(vector: &Vector) -> Checked {
    let bytes = vector.bytes("bytes");
    let segment = Segment::decode(&bytes).map_err(|why| match why {
        ManifestError::Encoding(why) => encoding(&why),
        ManifestError::Path(..) | ManifestError::Entry(..) | ManifestError::Table(_) => "manifest".into(),
    })?;
    same(segment.entries.len() as u64, vector.number("entries"))?;
    same(segment.entries.last().unwrap().path.as_bytes(), &vector.bytes("last_path"))?;
    same(segment.encode().unwrap(), bytes)
}

fn root(vector: &Vector) -> Checked {
    let bytes = vector.bytes("bytes");
    let root = SnapshotRoot::decode(&bytes).map_err(|why| match why {
        RootError::Encoding(why) => encoding(&why),
        RootError::UnknownFormat(_) => "unknown version".into(),
        RootError::Sense(_) => "manifest".into(),
    })?;
    same(root.segments.len() as u64, vector.number("segments"))?;
    same(root.encode().unwrap(), bytes)
}

fn config(vector: &Vector) -> Checked {
    let bytes = vector.bytes("bytes");
    let read = match vector.get("as") {
        Some("writer") => Config::decode(&bytes),
        _ => Config::decode_for_reading(&bytes),
    };
    let config = read.map_err(|why| match why {
        ConfigError::Encoding(why) => encoding(&why),
        ConfigError::Sizes => "configuration".into(),
        ConfigError::UnknownFeature(_) => "unknown feature".into(),
    })?;
    same(config.generation, vector.number("generation"))?;
    same(config.encode().unwrap(), bytes)
}

fn removal(read: Result<usize, TrashError>, vector: &Vector) -> Checked {
    let ids = read.map_err(|why| match why {
        TrashError::Encoding(why) => encoding(&why),
        TrashError::UnknownFormat(_) => "unknown version".into(),
        TrashError::Ids => "record".into(),
    })?;
    same(ids as u64, vector.number("ids"))
}

fn path(vector: &Vector) -> Checked {
    TreePath::new(vector.bytes("bytes")).map(drop).map_err(|_| "path".into())
}

fn repository(vector: &Vector) -> Checked {
    let id = repository_file::parse(&vector.bytes("bytes")).map_err(|why| match why {
        RepositoryFileError::NotOurs => "repository file",
        RepositoryFileError::UnknownFormat(_) => "unknown version",
    })?;
    same(&id[..], &vector.bytes("repo_id"))
}
