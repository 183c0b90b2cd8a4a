"""The host reads the disk of a running VM: the same as the guest sees, and more than a lying guest tells."""

from __future__ import annotations

import stat

from harness.observe import files, observation, reviewed

# Stamps and contents are of the same moment only where nobody writes.
VOLATILE = ("/dev", "/run", "/tmp")
# Jobs of cron put their results there, at any minute.
ROOT = "/root"
LIAR = """#!/bin/bash
roots=()
while [[ $1 != -* ]]; do roots+=("$1") && shift; done
exec /usr/bin/find "${roots[@]}" -name hidden -prune -o "$@"
"""


def test_host_and_guest_see_the_same_disk(system_vm):
    guest = system_vm.guest
    guest.run(
        "cd /root && ln -s /nowhere link && ln -s $(printf 'x%.0s' {1..90}) long && mkfifo pipe && mknod null c 1 3 "
        "&& install -m 4751 -o www-data -g staff /bin/true program && ln program second && truncate -s 3M sparse "
        "&& printf end >>sparse && mkdir -p 'odd name' && touch \"odd name/$(printf 'a\\nb\\377')\" "
        "&& for i in {1..400}; do : >\"odd name/$i-$(printf 'n%.0s' {1..60})\"; done"
    )
    guest.run(
        "command -v setfattr >/dev/null || python3 -c \"import os; os.setxattr('/root/program', 'user.a', b'1')\""
    )
    by_host = observation.observe(guest)
    shown, guest.disk = guest.disk, None
    by_guest = observation.observe(guest)
    guest.disk = shown
    assert (by_host.state.from_host, by_guest.state.from_host) == (True, False)
    one, other = by_host.state.entries, by_guest.state.entries
    for path in one.keys() | other.keys():
        if not reviewed.excuses("path", path) and not path.startswith(VOLATILE):
            mine, theirs = one[path], other[path]
            if not files._is_below(path, files.FOLDERS):
                mine = files.replace(mine, xattrs=theirs.xattrs, flags=theirs.flags)
            if path == ROOT:
                mine = files.replace(mine, stamp=theirs.stamp)
            assert mine == theirs, path
    assert files.diff(by_host.state, by_guest.state) == ()
    assert one["/root/program"].mode == 0o4751
    assert one["/root/program"].xattrs == (("user.a", "0x31"),)


def test_what_the_guest_hides_the_host_sees(system_vm):
    """Programs of the guest that lie about its disk hide nothing; the guest alone would have told of no change."""
    guest = system_vm.guest
    before = observation.observe(guest)
    guest.put(LIAR.encode(), "/usr/local/bin/find", 0o755)
    guest.run("install -m 4755 /bin/true /usr/bin/hidden")
    assert guest.run("find /usr/bin -name hidden -print").stdout == ""
    shown, guest.disk = guest.disk, None
    told = observation.observe(guest, before)
    guest.disk = shown
    assert "/usr/bin/hidden" not in told.state
    after = observation.observe(guest, before)
    (found,) = [row for row in files.diff(before.state, after.state) if row.path == "/usr/bin/hidden"]
    assert (found.change, after.state.entries[found.path].mode & stat.S_ISUID) == ("added", stat.S_ISUID)
    assert after.state.from_host
    # A file that is put back to the size and time that it had still differs: its time of change cannot be set.
    guest.run(
        "t=$(stat -c %y /usr/bin/env) && printf X | dd of=/usr/bin/env bs=1 seek=100 conv=notrunc status=none "
        '&& touch -d "$t" /usr/bin/env'
    )
    later = observation.observe(guest, after)
    assert [row.change for row in files.diff(after.state, later.state) if row.path == "/usr/bin/env"] == [
        "content"
    ]


def test_the_disk_is_shown_as_long_as_it_is_looked_at(system_vm):
    """What the guest writes meanwhile is not in it, and the machine runs on; nothing is left of it."""
    guest, folder = system_vm.guest, system_vm.machine.folder
    names = {path.name for path in folder.iterdir()}
    guest.run("echo one >/root/word && sync")
    with guest.disk() as blocks:
        guest.run("echo other >/root/word && echo more >/root/new && sync")
        mounted = guest.run("cat /proc/self/mountinfo").stdout
        found = {row.fields[9]: row for row in files.disk.listed(blocks, files.disk.mounts(mounted))}
        word = found["/root/word"]
        assert word.system.contents([word.inode]) == [b"one\n"]
        assert "/root/new" not in found
    assert {path.name for path in folder.iterdir()} == names
    assert guest.run("cat /root/word").stdout == "other\n"
    system_vm.machine.pause()
    system_vm.machine.resume()
