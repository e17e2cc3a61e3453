#!/usr/bin/env bash
# Fetches the programs that `python3 benches/compare` compares nfz with into a directory (target/peers, or the one given),
# without installing anything into the system: restic and rclone from Debian unstable (their packages unpack and run as they
# are; stable's are years old), Borg and nFreezer from PyPI, each in an environment of its own.
#
# Versions are pinned, packages by their checksum from Debian's package list. rustic is taken from PATH if it is there; to
# build it: cargo install rustic-rs --locked --root DIR/rustic (half an hour).
set -euo pipefail

root=${1:-target/peers}
mkdir -p "$root/bin"
root=$(cd "$root" && pwd)

BORG=1.4.5
NFREEZER=0.0.1
PARAMIKO=3.5.1 # the last with DSSKey, which pysftp 0.2.9 names

die() { printf 'peers.sh: %s\n' "$*" >&2; exit 1; }
failed=()

# A Debian package of this path and checksum, unpacked, its program linked into bin. When unstable has moved on, Debian's
# archive of old packages still has it.
deb() {
    local name=$1 path=$2 sum=$3 file=$root/${2##*/}
    [ "$(uname -m)" = x86_64 ] || die "only amd64 packages are pinned here; put $name into PATH by hand"
    if ! sha256sum --status -c <<<"$sum  $file" 2>/dev/null; then
        fetch "http://deb.debian.org/debian/$path" "$file" ||
            fetch "http://snapshot.debian.org/archive/debian/20261122T000000Z/$path" "$file" ||
            { failed+=("$name: cannot be fetched"); return; }
        sha256sum --status -c <<<"$sum  $file" || die "$file is not what Debian's list says"
    fi
    rm -rf "${root:?}/$name"
    dpkg -x "$file" "$root/$name"
    ln -sf "../$name/usr/bin/$name" "$root/bin/$name"
    "$root/bin/$name" version | head -n 1
}

fetch() { python3 -c 'import sys, urllib.request; urllib.request.urlretrieve(sys.argv[1], sys.argv[2])' "$1" "$2" 2>/dev/null; }

# An environment with these packages.
environment() {
    local name=$1
    shift
    [ -x "$root/$name/bin/python" ] || python3 -m venv "$root/$name"
    "$root/$name/bin/pip" install -q --disable-pip-version-check "$@" || failed+=("$name: pip failed")
}

borg() {
    # It is built here: a C compiler and libacl1-dev libssl-dev liblz4-dev libxxhash-dev libzstd-dev pkgconf are needed.
    environment borg "borgbackup==$BORG"
    ln -sf ../borg/bin/borg "$root/bin/borg"
    "$root/bin/borg" --version || failed+=("borg: needs libacl1-dev libssl-dev liblz4-dev libxxhash-dev libzstd-dev")
}

nfreezer() {
    environment nfreezer "nfreezer==$NFREEZER" "paramiko==$PARAMIKO" pysftp==0.2.9 pycryptodome==3.23.0
    ln -sf ../nfreezer/bin/nfreezer "$root/bin/nfreezer"
}

deb restic pool/main/r/restic/restic_0.19.1-1_amd64.deb 97711c3125b5a65788a7e99fce8eb25f9a543fa8d83c4d7e54a5febe939a0f9e
deb rclone pool/main/r/rclone/rclone_1.75.2-2_amd64.deb bf63212eb78117deff2480e757c9910c56698ea7fca63ab0e33c336c3ec9c54b
nfreezer
borg

for what in "${failed[@]}"; do
    printf 'NOT FETCHED: %s\n' "$what" >&2
done
[ ${#failed[@]} = 0 ]
