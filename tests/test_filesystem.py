"""Which file systems a journal may lie on, read from mount tables as kernels write them."""

import sys
from pathlib import Path

import pytest

from durable.filesystem import MOUNT_TABLE, filesystem_type, is_unsafe

# From real machines: a laptop, a virtual machine with shared folders, a container, a cluster node.
TABLE = r"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
31 27 0:26 / /dev/shm rw,nosuid shared:2 - tmpfs tmpfs rw
40 27 0:50 / /home rw,relatime shared:31 - nfs4 server:/home rw,vers=4.2
41 40 253:3 / /home/ada/scratch rw,relatime - xfs /dev/nvme0n1 rw
42 27 0:51 / /mnt/share rw,relatime shared:40 master:3 propagate_from:2 - cifs //server/share rw
43 27 0:52 / /mnt/virtio rw,relatime - virtiofs shared rw
44 27 0:53 / /mnt/ssh rw,nosuid,nodev - fuse.sshfs ada@host:/data rw
45 27 0:54 / /mnt/c rw,noatime - 9p drvfs rw,aname=drvfs;path=C:\134
46 27 8:17 / /mnt/usb rw,relatime - fuseblk /dev/sdb1 rw
47 27 0:55 / /var/lib/docker/overlay2/abc/merged rw - overlay overlay rw,lowerdir=/a:/b
48 27 0:50 /ada/data /data rw,relatime - nfs4 server:/home rw
49 27 254:0 /srv/local /mnt/share/local rw,relatime - ext4 /dev/vda rw
50 27 0:56 / /mnt/my\040disk rw - nfs server:/my\040disk rw
51 27 0:57 / /mnt/tab\011and\134slash rw - cifs //server/x rw
52 27 0:58 / /mnt/données rw - nfs4 server:/données rw
53 27 0:59 / /mnt/covered rw - ext4 /dev/sdc rw
54 53 0:60 / /mnt/covered rw - lustre mds@tcp:/fs rw
55 27 0:61 / /opt/dashed - folder rw - nfs4 never:/parsed rw
"""


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "mountinfo"
    path.write_text(TABLE, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", "ext4"),
        ("/srv/jobs", "ext4"),
        ("/dev/shm", "tmpfs"),
        ("/home", "nfs4"),
        ("/home/ada", "nfs4"),
        ("/homework", "ext4"),
        ("/home/ada/scratch", "xfs"),
        ("/home/ada/scratch/deep/down", "xfs"),
        ("/home/ada/scratchy", "nfs4"),
        ("/mnt/share/x", "cifs"),
        ("/mnt/share/local/x", "ext4"),
        ("/mnt/virtio", "virtiofs"),
        ("/mnt/ssh/data", "fuse.sshfs"),
        ("/mnt/c/Users", "9p"),
        ("/mnt/usb", "fuseblk"),
        ("/var/lib/docker/overlay2/abc/merged/app", "overlay"),
        ("/data/set", "nfs4"),
        ("/mnt/my disk/x", "nfs"),
        ("/mnt/tab\tand\\slash", "cifs"),
        ("/mnt/données/x", "nfs4"),
        ("/mnt/covered", "lustre"),
    ],
)
def test_the_innermost_and_newest_mount_counts(table, folder, kind):
    assert filesystem_type(Path(folder), table) == kind


def test_a_mount_name_that_is_not_unicode_is_found(tmp_path):
    table = tmp_path / "mountinfo"
    table.write_bytes(b"27 1 254:0 / / rw - ext4 /dev/vda rw\n28 27 0:9 / /mnt/caf\xe9 rw - nfs4 s:/x rw\n")
    assert filesystem_type(Path(b"/mnt/caf\xe9/x".decode("utf-8", "surrogateescape")), table) == "nfs4"


def test_a_space_beyond_ascii_is_part_of_a_name(tmp_path):
    """The kernel escapes space, tab, newline and backslash only."""
    table = tmp_path / "mountinfo"
    table.write_text(
        "27 1 254:0 / / rw - ext4 /dev/vda rw\n28 27 0:9 / /mnt/a\u00a0b\u2028c rw - nfs4 s:/x rw\n", encoding="utf-8"
    )
    assert filesystem_type(Path("/mnt/a\u00a0b\u2028c/x"), table) == "nfs4"


def test_a_link_is_followed_to_its_file_system(tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    table = tmp_path / "mountinfo"
    table.write_text(f"27 1 254:0 / / rw - ext4 /dev/vda rw\n28 27 0:9 / {real.resolve()} rw - nfs4 s:/x rw\n")
    assert filesystem_type(tmp_path / "link", table) == "nfs4"


@pytest.mark.parametrize("text", ["", "garbage\n", "1 2 3\n - \n", "\n\n", "27 1 254:0 / /\n"])
def test_a_table_that_tells_nothing_gives_none(tmp_path, text):
    table = tmp_path / "mountinfo"
    table.write_text(text)
    assert filesystem_type(tmp_path, table) is None


def test_no_table_gives_none(tmp_path):
    assert filesystem_type(tmp_path, tmp_path / "missing") is None


@pytest.mark.parametrize(
    "kind",
    [
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "vboxsf", "vmhgfs", "prl_fs", "drvfs"),
        *("fuse", "fuse.sshfs", "fuse.rclone", "fuse.s3fs", "fuse.grpcfuse", "fuse.vmhgfs-fuse", "fuse.glusterfs"),
        *("lustre", "gpfs", "ceph", "beegfs", "afs", "ocfs2", "gfs2", "webdav", "davfs"),
    ],
)
def test_network_and_pass_through_file_systems_are_unsafe(kind):
    assert is_unsafe(kind)


@pytest.mark.parametrize(
    "kind",
    [None, "ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "apfs", "fuseblk", "fuse.ntfs-3g", "f2fs", "unheard-of"],
)
def test_local_and_unknown_file_systems_are_trusted(kind):
    assert not is_unsafe(kind)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the table of a Linux kernel")
def test_this_machines_own_table_is_understood(tmp_path):
    assert filesystem_type(Path("/proc")) == "proc"
    assert filesystem_type(tmp_path)
    points = [line.split()[4] for line in MOUNT_TABLE.read_text().splitlines()]
    assert all(filesystem_type(Path(point)) for point in points if "\\" not in point)
