"""Which file system a folder is on, and whether SQLite's write-ahead log is safe there.

A write-ahead log needs shared memory and byte-range locks that work. On network file systems and on the pass-through
file systems of virtual machines and containers it corrupts journals without raising, so they are told apart before the
journal is opened, by the kernel's own mount table.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

UNSAFE: Final = frozenset(
    "9p afpfs afs beegfs ceph cephfs cifs coda davfs drvfs fakeowner fuse gfs2 glusterfs gpfs lustre ncpfs nfs nfs4 "
    "ocfs2 orangefs panfs prl_fs pvfs2 smb2 smb3 smbfs vboxsf virtiofs vmhgfs webdav".split()
)
# fuse.* is refused as a family, but for these, which are local disks with a driver in user space.
LOCAL_FUSE: Final = frozenset({"fuseblk", "fuse.ntfs", "fuse.ntfs-3g", "fuse.ext4", "fuse.fuse-ext2", "fuse.zfs"})
_OCTAL: Final = rb"\\([0-7]{3})"
MOUNT_TABLE: Final = Path("/proc/self/mountinfo")


def filesystem_type(folder: Path, mount_table: Path = MOUNT_TABLE) -> str | None:
    """The type of the file system `folder` is on, such as ``"ext4"``; None where there is no mount table to ask."""
    try:
        table = mount_table.read_bytes()
    except OSError:
        return None
    target = os.path.realpath(folder)
    best, found = -1, None
    for line in table.split(b"\n"):
        # "36 35 98:0 /root /mount/point options... - type source superoptions": see proc(5).
        before, separator, after = line.partition(b" - ")
        fields = before.split(b" ")
        if not separator or len(fields) < 5:
            continue
        place = fields[4]
        if b"\\" in place:  # few have an escape, and the expression takes its time to compile
            place = re.sub(_OCTAL, lambda escape: bytes([int(escape[1], 8)]), place)
        mount = os.fsdecode(place)
        inside = target == mount or target.startswith(mount.rstrip("/") + "/")
        # Of equal mount points the later line lies on top.
        if inside and len(mount) >= best:
            best, found = len(mount), os.fsdecode(after.split(b" ")[0])
    return found


def is_unsafe(kind: str | None) -> bool:
    """Whether a write-ahead log may be corrupted on a file system of this type. Unknown types are trusted."""
    if kind is None or kind in LOCAL_FUSE:
        return False
    return kind in UNSAFE or kind.startswith("fuse.")
