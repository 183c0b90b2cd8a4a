"""Whose signatures count on a VM: a key, or a folder of keys, and what the lists beside them say against one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bundle.seal.signer import key_id
from tests.guest.livepatch import bundles, plays_refusals
from tests.guest.livepatch.test_foreign import _boot_takes
from tests.guest.livepatch.test_ways_out import hook
from tests.guest.livepatch.vm_factory import expect_patched, expect_refused

KEY, OTHER = plays_refusals._key(), plays_refusals._key()
NAME, STRANGER = (key_id(key.public_key()) for key in (KEY, OTHER))
STORE = "etc/cloudstack/livepatch-trust"
TODAY = "2026-07-22"


@pytest.fixture(scope="module")
def good():
    return plays_refusals.signed(bundles.new_content(), KEY)


def _keys(lab, *keys):
    """Make the folder of keys."""
    (lab.root / STORE).mkdir(parents=True)
    for number, key in enumerate(keys):
        (lab.root / STORE / f"{number}.{('pem', 'pub')[number % 2]}").write_text(plays_refusals._pem(key))


def _put_clock(lab, day=TODAY):
    (lab.root / "usr/local/sbin/date").write_text(f"#!/bin/sh\n[ \"$*\" = '-u +%F' ] && echo {day}\n")
    (lab.root / "usr/local/sbin/date").chmod(0o755)


@pytest.mark.parametrize("lists", [{}, {"revoked": STRANGER, "expires": f"{STRANGER} 2020-01-01"}])
def test_any_key_of_the_folder_may_sign(lab, good, lists):
    _keys(lab, OTHER, KEY)
    for name, text in lists.items():
        (lab.root / STORE / name).write_text(f"# remark\n\n{text} # remark\n")
    assert _boot_takes(lab, good)
    expect_patched(lab.patch(good), good, lab)


def test_the_file_and_the_folder_count_both(lab, good):
    _keys(lab, OTHER)
    plays_refusals._trust(KEY)(lab)
    assert _boot_takes(lab, good)
    expect_patched(lab.patch(good), good, lab)


@pytest.mark.parametrize("day", ["2026-07-21", "2026-07-22"])
def test_the_last_day_of_a_key_is_a_day_of_it(lab, good, day):
    _keys(lab, KEY)
    _put_clock(lab)
    (lab.root / STORE / "expires").write_text(f"{NAME} {day}")
    if day == TODAY:
        assert _boot_takes(lab, good)
        expect_patched(lab.patch(good), good, lab)
    else:
        assert not _boot_takes(lab, good)
        with expect_refused(lab, f"key {NAME}, which expired after {day}") as check:
            check(lab.patch(good))


@pytest.mark.parametrize(
    ("lists", "reason"),
    [
        ({"revoked": f"{NAME} # stolen"}, f"key {NAME}, which is revoked"),
        ({"revoked": f"{STRANGER}\n{NAME}\r\n"}, f"key {NAME}, which is revoked"),
        (
            {"revoked": NAME[:16]},
            "line 1 of /etc/cloudstack/livepatch-trust/revoked is not as revoked needs it",
        ),
        ({"revoked": f"{STRANGER} and more"}, "line 1 of /etc/cloudstack/livepatch-trust/revoked"),
        ({"expires": f"# days\n{STRANGER} soon"}, "line 2 of /etc/cloudstack/livepatch-trust/expires"),
        ({"expires": STRANGER}, "line 1 of /etc/cloudstack/livepatch-trust/expires"),
        ({"revoked": None}, "/etc/cloudstack/livepatch-trust/revoked is no file"),
        ({"expires": None}, "/etc/cloudstack/livepatch-trust/expires is no file"),
    ],
    # Named by hand: the key's name differs in each process, and pytest's processes must collect the same tests.
    ids=[
        "remark",
        "CRLF",
        "cut short",
        "words after",
        "no day",
        "day missing",
        "revoked no file",
        "expires no file",
    ],
)
def test_a_list_that_speaks_against_the_key_or_cannot_be_read_refuses(lab, good, lists, reason):
    _keys(lab, KEY)
    for name, text in lists.items():
        if text is None:
            (lab.root / STORE / name).symlink_to("/nowhere")
        else:
            (lab.root / STORE / name).write_text(text)
    assert not _boot_takes(lab, good)
    with expect_refused(lab, reason) as check:
        check(lab.patch(good))


@pytest.mark.parametrize("kind", ["empty", "dangling", "without a key"])
def test_a_folder_without_a_key_trusts_nobody(lab, good, kind):
    store = lab.root / STORE
    store.parent.mkdir(exist_ok=True)
    if kind == "dangling":
        store.symlink_to("/nowhere")
    else:
        store.mkdir()
    if kind == "without a key":
        (store / "note.txt").write_text(plays_refusals._pem(KEY))
    assert not _boot_takes(lab, good)
    with expect_refused(lab, "/etc/cloudstack/livepatch-trust holds no key") as check:
        check(lab.patch(good))


@pytest.mark.parametrize("bundle", ["unsigned", "of another"])
def test_a_folder_asks_for_a_signature_of_its_keys(lab, bundle):
    _keys(lab, KEY)
    made = bundles.new() if bundle == "unsigned" else plays_refusals.signed(bundles.new_content(), OTHER)
    reason = (
        "the manifest is unsigned" if bundle == "unsigned" else f"which names key {STRANGER}, was not made"
    )
    assert not _boot_takes(lab, made)
    with expect_refused(lab, reason) as check:
        check(lab.patch(made))


def test_a_manifest_that_names_another_key_than_its_own_is_refused(lab):
    _keys(lab, KEY)
    liar = plays_refusals.signed(replace(bundles.new_content(), key=STRANGER), KEY)
    with expect_refused(lab, f"is signed with key {NAME}, but names key {STRANGER}") as check:
        check(lab.patch(liar))


@pytest.mark.parametrize(
    ("program", "code", "reason"),
    [
        ("openssl", "kill -KILL $$", "was not made with a key in"),
        ("openssl", "[ $1 != pkey ] || exit 1", "cannot tell the name of the key"),
        ("date", "exit 1", "cannot tell the day"),
        ("find", '[ "$2" != /etc/cloudstack/livepatch-trust ] || exit 1', "cannot look into"),
    ],
)
def test_a_program_that_did_not_tell_has_not_vouched(lab, good, program, code, reason):
    _keys(lab, KEY)
    (lab.root / STORE / "expires").write_text(f"{NAME} 2099-01-01")
    hook(lab, program, code)
    before = lab.state()
    run = lab.patch(good)
    assert run.status in (1, 2) and reason in run.output, run
    assert lab.state() == before


@pytest.mark.parametrize(("build", "taken"), [(8, False), (0, False), (9, True), (10, True)])
def test_the_boot_refuses_an_older_build_where_a_key_is_installed(lab, build, taken):
    installed = plays_refusals.signed(replace(bundles.new_content(), build=9), KEY)
    _keys(lab, KEY)
    expect_patched(lab.patch(installed), installed, lab)
    assert _boot_takes(lab, plays_refusals.signed(replace(bundles.new_content(), build=build), KEY)) == taken


def test_the_boot_refuses_an_older_release_where_a_key_is_installed(lab):
    _keys(lab, KEY)
    older = plays_refusals.signed(
        replace(bundles.new_content(), version="4.20.2.0", release="4.20", build=99), KEY
    )
    assert not _boot_takes(lab, older)
