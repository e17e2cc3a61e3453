//! Names of users and groups on this machine.
//!
//! Read once from `/etc/passwd` and `/etc/group`. Users that only a directory service knows keep their number and have
//! no name here: asking it takes C library calls that cannot be made in safe code.

use crate::format::manifest::Owner;
use std::{collections::HashMap, fs::File, io::Read, path::Path, sync::Arc};

/// The most that is read of either file, in bytes.
const FILE_MAX: u64 = 64 << 20;

/// Names by number and numbers by name.
#[derive(Clone, Debug, Default)]
pub struct OwnerNames {
    users: Names,
    groups: Names,
    owners: HashMap<(u32, u32), Arc<Owner>>,
}

#[derive(Clone, Debug, Default)]
struct Names {
    name_of: HashMap<u32, Vec<u8>>,
    number_of: HashMap<Vec<u8>, u32>,
}

impl OwnerNames {
    /// Reads this machine's files; one that cannot be read gives no names.
    #[must_use]
    pub fn load() -> Self {
        Self::parse(&read(Path::new("/etc/passwd")), &read(Path::new("/etc/group")))
    }

    /// Takes the content of `/etc/passwd` and `/etc/group`. Where a number or a name stands twice, the first counts.
    #[must_use]
    pub fn parse(passwd: &[u8], group: &[u8]) -> Self {
        Self { users: Names::parse(passwd), groups: Names::parse(group), owners: HashMap::new() }
    }

    /// The owner with these numbers, and their names where there are any. The same owner is always the same `Arc`.
    pub fn owner(&mut self, uid: u32, gid: u32) -> Arc<Owner> {
        let Self { users, groups, owners } = self;
        let make = || Arc::new(Owner { uid, gid, user: users.name(uid), group: groups.name(gid) });
        Arc::clone(owners.entry((uid, gid)).or_insert_with(make))
    }

    /// The numbers that `owner` has on this machine: by name where the name is known here, else as recorded.
    #[must_use]
    pub fn numbers(&self, owner: &Owner) -> (u32, u32) {
        (self.users.number(&owner.user).unwrap_or(owner.uid), self.groups.number(&owner.group).unwrap_or(owner.gid))
    }
}

impl Names {
    fn parse(text: &[u8]) -> Self {
        let mut names = Self::default();
        for (name, number) in text.split(|&byte| byte == b'\n').filter_map(parse_line) {
            names.name_of.entry(number).or_insert_with(|| name.to_vec());
            names.number_of.entry(name.to_vec()).or_insert(number);
        }
        names
    }

    fn name(&self, number: u32) -> Vec<u8> {
        self.name_of.get(&number).cloned().unwrap_or_default()
    }

    fn number(&self, name: &[u8]) -> Option<u32> {
        self.number_of.get(name).copied()
    }
}

/// `name:password:number:…`
fn parse_line(line: &[u8]) -> Option<(&[u8], u32)> {
    let mut fields = line.split(|&byte| byte == b':');
    let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with(b"#"))?;
    let number = std::str::from_utf8(fields.nth(1)?).ok()?.parse().ok()?;
    Some((name, number))
}

fn read(path: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    // Half a file is still better than none: names are a help, not a promise.
    let _ = File::open(path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut text));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> OwnerNames {
        OwnerNames::parse(
            b"root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/:\n\n#x\nbad:x:y:\nann2:x:1000:1::/:",
            b"wheel:x:0:\n",
        )
    }

    #[test]
    fn a_number_has_its_first_name_and_none_where_none_is_known() {
        let mut names = names();
        let owner = names.owner(1000, 7);
        assert_eq!((owner.user.as_slice(), owner.group.as_slice()), (&b"ann"[..], &b""[..]));
        assert!(Arc::ptr_eq(&owner, &names.owner(1000, 7)));
    }

    #[test]
    fn a_name_known_here_decides_and_the_number_where_it_is_not() {
        let owner = Owner { uid: 5, gid: 6, user: b"ann2".to_vec(), group: b"nobody-here".to_vec() };
        assert_eq!(names().numbers(&owner), (1000, 6));
        assert_eq!(names().numbers(&Owner { uid: 5, gid: 6, ..Owner::default() }), (5, 6));
    }
}
