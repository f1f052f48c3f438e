"""Stores that are broken on purpose: the contract must catch every one of them."""

from __future__ import annotations

import contextlib
import fcntl
import fnmatch
import hashlib
import itertools
import json
import os
import tempfile
import threading
import time
from types import SimpleNamespace

import pytest
from attrs import evolve
from hypothesis import Phase, settings

from podnet.model.block import Block
from podnet.testing import StoreContract


@pytest.fixture(autouse=True)
def _first_failure_is_enough():
    """No time is spent on shrinking what is known to be broken."""
    before = settings.get_current_profile_name()
    settings.register_profile("teeth", settings.default, phases=[Phase.generate], database=None)
    settings.load_profile("teeth")
    yield
    settings.load_profile(before)


class Good:
    """A correct store to break: blocks in a dictionary, versions from a counter."""

    def __init__(self, other=None):
        self.blocks = {} if other is None else other.blocks
        self.numbers = itertools.count(1) if other is None else other.numbers
        self.lock = threading.RLock() if other is None else other.lock

    def load(self, key):
        return self.blocks.get(key)

    def new_version(self, key, new):
        return str(next(self.numbers))

    def swap(self, key, new, expected):
        with self.lock:
            current = self.blocks.get(key)
            if (current[1] if current else None) != expected:
                return False
            if new is None:
                self.blocks.pop(key, None)
            else:
                self.blocks[key] = (new, self.new_version(key, new))
            return True

    def keys(self, prefix):
        return sorted(key for key in list(self.blocks) if key.startswith(prefix))

    def close(self):
        pass


class LostUpdate(Good):
    """Overwrites whatever is there."""

    def swap(self, key, new, expected):
        current = self.blocks.get(key)
        return super().swap(key, new, current[1] if current else None)


class CheckThenAct(Good):
    """Compares and replaces in two steps that others can get between."""

    def swap(self, key, new, expected):
        current = self.blocks.get(key)
        if (current[1] if current else None) != expected:
            return False
        time.sleep(0.001)
        self.blocks[key] = (new, self.new_version(key, new))
        return True


class VersionsPerBlock(Good):
    """Counts versions from 1 again when a block is created anew (ABA)."""

    def new_version(self, key, new):
        current = self.blocks.get(key)
        return str(int(current[1]) + 1 if current else 1)


class VersionsByContent(Good):
    """Takes a digest of the content for a version: it comes back with the content."""

    def new_version(self, key, new):
        return hashlib.sha256(json.dumps(new.to_document()).encode()).hexdigest()


class DeletesAnything(Good):
    """Does not compare versions when it deletes."""

    def swap(self, key, new, expected):
        if new is None:
            return self.blocks.pop(key, None) is not None or expected is None
        return super().swap(key, new, expected)


class CreatesOnUpdate(Good):
    """Creates a block where the expected version is gone (an upsert)."""

    def swap(self, key, new, expected):
        if key not in self.blocks and new is not None:
            expected = None
        return super().swap(key, new, expected)


class SaysYes(Good):
    """Reports a win to the loser."""

    def swap(self, key, new, expected):
        super().swap(key, new, expected)
        return True


class Like(Good):
    """Takes a prefix for a pattern, as an unescaped SQL LIKE does."""

    def keys(self, prefix):
        pattern = prefix.replace("%", "*").replace("_", "?") + "*"
        return sorted(key for key in self.blocks if fnmatch.fnmatchcase(key, pattern))


class FoldsCase(Good):
    """Does not tell upper from lower case, as a case-insensitive collation does."""

    def load(self, key):
        return super().load(key.lower())

    def swap(self, key, new, expected):
        return super().swap(key.lower(), new, expected)


class CutsKeys(Good):
    """Keeps 255 characters of a key, as a VARCHAR column may."""

    def load(self, key):
        return super().load(key[:255])

    def swap(self, key, new, expected):
        return super().swap(key[:255], new, expected)


class Unordered(Good):
    """Lists keys as they came."""

    def keys(self, prefix):
        return [key for key in self.blocks if key.startswith(prefix)]


class Listing(Good):
    """Goes on listing what was deleted."""

    def __init__(self):
        super().__init__()
        self.ever = set()

    def swap(self, key, new, expected):
        self.ever.add(key)
        return super().swap(key, new, expected)

    def keys(self, prefix):
        return sorted(key for key in self.ever if key.startswith(prefix))


class SixtyFourBits(Good):
    """Keeps 64 bits of a number, as an integer column does."""

    def swap(self, key, new, expected):
        if new is not None:
            new = evolve(new, index=new.index % (1 << 64), sequence=new.sequence % (1 << 63))
        return super().swap(key, new, expected)


class DropsLeases(Good):
    """Keeps 255 of a block's leases."""

    def swap(self, key, new, expected):
        if new is not None:
            new = evolve(new, leases=dict(sorted(new.leases.items())[:255]))
        return super().swap(key, new, expected)


class Seconds(Good):
    """Keeps whole seconds of times."""

    def swap(self, key, new, expected):
        if new is not None:
            leases = {n: evolve(x, since=float(int(x.since))) for n, x in new.leases.items()}
            new = evolve(new, leases=leases)
        return super().swap(key, new, expected)


class Remembers(Good):
    """A second handle that answers from what it read before."""

    def __init__(self, other=None):
        super().__init__(other)
        self.seen = {}

    def load(self, key):
        if key not in self.seen:
            self.seen[key] = super().load(key)
        return self.seen[key]

    def swap(self, key, new, expected):
        won = super().swap(key, new, expected)
        self.seen.pop(key, None)
        return won


class Forgets(Good):
    """Claims to be durable and is not."""


class KeepsTwo(Good):
    """Drops what nobody asked for in a long time, as a cache with nothing behind it does."""

    def swap(self, key, new, expected):
        won = super().swap(key, new, expected)
        if len(self.blocks) > 50:
            del self.blocks[next(iter(self.blocks))]
        return won


class Unlocked(Good):
    """Compares, and replaces a line later."""

    def swap(self, key, new, expected):
        current = self.blocks.get(key)
        if (current[1] if current else None) != expected:
            return False
        entry = None if new is None else (new, self.new_version(key, new))
        if entry is None:
            self.blocks.pop(key, None)
        else:
            self.blocks[key] = entry
        return True


class TwoSteps(Good):
    """Takes the old block away before it puts the new one there: in between there is none."""

    def swap(self, key, new, expected):
        with self.lock:
            current = self.blocks.get(key)
            if (current[1] if current else None) != expected:
                return False
            self.blocks.pop(key, None)
            if new is not None:
                entry = (new, self.new_version(key, new))
                self.blocks[key] = entry
            return True


class StaleReads(Good):
    """Each thread reads what it read before, a few times, as from a replica that is behind."""

    def __init__(self, other=None):
        super().__init__(other)
        self.replica = {}

    def load(self, key):
        entry, left = self.replica.get((threading.get_ident(), key), (None, 0))
        if not left:
            entry, left = super().load(key), 3
        self.replica[threading.get_ident(), key] = entry, left - 1
        return entry

    def swap(self, key, new, expected):
        won = super().swap(key, new, expected)
        self.replica.pop((threading.get_ident(), key), None)
        return won


class DirtyFailure(Good):
    """Now and then says that somebody else won, and has done it all the same."""

    def swap(self, key, new, expected):
        won = super().swap(key, new, expected)
        return won and next(self.numbers) % 7 != 0


class StaleKeys(Good):
    """Lists the keys as of the listing before."""

    def __init__(self, other=None):
        super().__init__(other)
        self.before = {}

    def keys(self, prefix):
        now = super().keys(prefix)
        before, self.before[prefix] = self.before.get(prefix, now), now
        return before


class UnlockedFiles(Good):
    """Files without a lock."""

    def __init__(self, other=None):
        self.folder = tempfile.mkdtemp() if other is None else other.folder

    def load(self, key):
        try:
            with open(self.path(key), "rb") as file:
                document, version = json.load(file)
            return Block.from_document(document), version
        except OSError:
            return None

    def path(self, key):
        return os.path.join(self.folder, key.replace("/", "%"))

    def swap(self, key, new, expected):
        current = self.load(key)
        if (current[1] if current else None) != expected:
            return False
        if new is None:
            if current is not None:
                os.unlink(self.path(key))
            return True
        body = json.dumps((new.to_document(), os.urandom(8).hex())).encode()
        self.write(self.path(key), body)
        return True

    def write(self, path, body):
        temporary = f"{path}-{os.getpid()}"
        with open(temporary, "wb") as file:
            file.write(body)
        os.rename(temporary, path)

    def keys(self, prefix):
        names = (name.replace("%", "/") for name in os.listdir(self.folder) if "-" not in name)
        return sorted(name for name in names if name.startswith(prefix))


class LockedFiles(UnlockedFiles):
    """The same with a lock, which is sound."""

    def swap(self, key, new, expected):
        with open(self.folder + ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return super().swap(key, new, expected)


class HalfWritten(LockedFiles):
    """Writes where the old block is."""

    def write(self, path, body):
        with open(path, "wb", buffering=0) as file:
            file.write(body[:20])
            time.sleep(0.001)
            file.write(body[20:])


class WrittenLater(LockedFiles):
    """Tells a swap done when it is in memory; every third time it goes to the disk."""

    def __init__(self, other=None):
        super().__init__(other)
        self.kept = {}

    def load(self, key):
        return self.kept.get(key) or super().load(key)

    def write(self, path, body):
        document, version = json.loads(body)
        key = os.path.basename(path).replace("%", "/")
        self.kept[key] = Block.from_document(document), version
        if self.kept[key][0].sequence % 3 == 0:
            super().write(path, body)
            self.kept.clear()


class LeavesItsLock(UnlockedFiles):
    """Locks by a folder, which the dead do not remove."""

    def swap(self, key, new, expected):
        lock = os.path.join(self.folder, "-lock")
        for _ in range(1000):
            with contextlib.suppress(FileExistsError):
                os.mkdir(lock)
                break
            time.sleep(0.001)
        else:
            raise AssertionError("the lock is never free")
        won = super().swap(key, new, expected)
        time.sleep(0.001)
        os.rmdir(lock)
        return won


class Rows(Good):
    """Keeps leases as rows, and writes only what changed."""

    def swap(self, key, new, expected):
        with self.lock:
            old = self.blocks.get(key)
            if new is not None and old is not None:
                new = self.written(old[0], new)
            return super().swap(key, new, expected)

    def written(self, old, new):
        return new


class RowsByAddress(Rows):
    """Takes a lease on the same address for the same lease."""

    def written(self, old, new):
        return evolve(
            new, leases={**new.leases, **{n: x for n, x in old.leases.items() if n in new.leases}}
        )


class RowsByNumber(Rows):
    """Takes a lease on the same address with the same number for the same lease."""

    def written(self, old, new):
        same = {
            n: x
            for n, x in old.leases.items()
            if n in new.leases and new.leases[n].sequence == x.sequence
        }
        return evolve(new, leases={**new.leases, **same})


class RowsStay(Rows):
    """Never deletes a row."""

    def written(self, old, new):
        return evolve(new, leases={**old.leases, **new.leases}, freed=new.freed)


class NewsOnly(Rows):
    """Writes the block itself only if its leases changed."""

    def written(self, old, new):
        return old if dict(old.leases) == dict(new.leases) else new


class Loses(Good):
    """Keeps all of a block but one field."""

    field = "freed"
    empty = {}  # noqa: RUF012

    def swap(self, key, new, expected):
        if new is not None:
            new = evolve(new, **{self.field: self.empty})
        return super().swap(key, new, expected)


class LosesHolder(Loses):
    field, empty = "holder", ""


class LosesRecalled(Loses):
    field, empty = "recalled", False


class FreesForEver(Good):
    """Adds the times of releases to those of before."""

    def swap(self, key, new, expected):
        with self.lock:
            old = self.blocks.get(key)
            if new is not None and old is not None:
                freed = {n: when for n, when in old[0].freed.items() if n not in new.leases}
                new = evolve(new, freed={**freed, **new.freed})
            return super().swap(key, new, expected)


class LosesClaim(Good):
    def swap(self, key, new, expected):
        if new is not None:
            new = evolve(new, leases={n: evolve(x, claim="") for n, x in new.leases.items()})
        return super().swap(key, new, expected)


class EightBits(Good):
    """Keeps 256 addresses of a block."""

    def swap(self, key, new, expected):
        if new is not None:
            leases = {n: x for n, x in new.leases.items() if n < 256}
            new = evolve(new, leases=leases, freed={n % 256: t for n, t in new.freed.items()})
        return super().swap(key, new, expected)


class Seeks(Good):
    """Finds owners by an index of container and interface, and of pod and interface."""

    def __init__(self, other=None):
        super().__init__(other)
        self.index = {} if other is None else other.index

    def names(self, owner):
        yield owner.container_id, owner.ifname
        if owner.pod_uid:
            yield owner.pod_uid, owner.ifname, "pod"

    def swap(self, key, new, expected):
        with self.lock:
            old = self.blocks.get(key)
            won = super().swap(key, new, expected)
            if won:
                self.note(key, old, new)
            return won

    def note(self, key, old, new):
        for keys in self.index.values():
            keys.discard(key)
        for lease in new.leases.values() if new else ():
            for name in self.names(lease.owner):
                self.index.setdefault(name, set()).add(key)

    def seek(self, prefix, owner):
        with self.lock:
            found = set().union(*(self.index.get(name, set()) for name in self.names(owner)))
            return sorted(key for key in found if key.startswith(prefix))


class SeeksTooMuch(Seeks):
    """A sound one: every block may have a lease of anybody."""

    def seek(self, prefix, owner):
        return self.keys(prefix)


class SeeksNothing(Seeks):
    def seek(self, prefix, owner):
        return []


class SeeksNoPods(Seeks):
    """Forgets that a pod's container is replaced."""

    def names(self, owner):
        yield owner.container_id, owner.ifname


class SeeksNoRenewals(Seeks):
    """Notes a lease when it is new, not when it changes hands."""

    def note(self, key, old, new):
        before = old[0].leases if old else {}
        fresh = {n: x for n, x in new.leases.items() if n not in before} if new else {}
        for lease in fresh.values():
            for name in self.names(lease.owner):
                self.index.setdefault(name, set()).add(key)


class SeeksLosers(Seeks):
    """Notes what was not swapped in."""

    def swap(self, key, new, expected):
        won = super().swap(key, new, expected)
        if not won:
            self.note(key, None, new)
        return won


class SeeksOne(Seeks):
    """Knows one block of each owner."""

    def seek(self, prefix, owner):
        return super().seek(prefix, owner)[:1]


class SeeksByPattern(Seeks):
    """Takes names for patterns."""

    def seek(self, prefix, owner):
        return [
            key
            for key, (block, _) in sorted(self.blocks.items())
            if key.startswith(prefix)
            for lease in block.leases.values()
            if fnmatch.fnmatchcase(lease.owner.ifname, owner.ifname)
            and (
                fnmatch.fnmatchcase(lease.owner.container_id, owner.container_id)
                or (owner.pod_uid and fnmatch.fnmatchcase(lease.owner.pod_uid, owner.pod_uid))
            )
        ]


class SeeksAlone(Seeks):
    """Knows only what its own handle swapped."""

    def __init__(self, other=None):
        super().__init__(other)
        self.index = {}


class SeeksLate(Seeks):
    """Knows a swap when the next one comes."""

    def __init__(self, other=None):
        super().__init__(other)
        self.pending = ()

    def note(self, key, old, new):
        if self.pending:
            super().note(*self.pending)
        self.pending = key, old, new


class SeeksEverywhere(Seeks):
    """Does not look at the prefix."""

    def seek(self, prefix, owner):
        return super().seek("", owner)


class SeeksUnlocked(Seeks):
    """Notes a swap after others could see it, and after it was told."""

    def swap(self, key, new, expected):
        old = self.blocks.get(key)
        won = Good.swap(self, key, new, expected)
        if won:
            for lease in old[0].leases.values() if old else ():
                for name in self.names(lease.owner):
                    self.index.get(name, set()).discard(key)
            for lease in new.leases.values() if new else ():
                for name in self.names(lease.owner):
                    self.index.setdefault(name, set()).add(key)
        return won


class NotEmpty(Good):
    """Opens on what somebody left."""

    def __init__(self, other=None):
        super().__init__(other)
        block = Block(domain="left", version=4, index=1)
        self.blocks.setdefault(block.key, (block, "0"))


class CreatesNothing(Good):
    def swap(self, key, new, expected):
        return super().swap(key, new, expected) if expected else True


class ClosesOnce(Good):
    def close(self):
        self.lock = self.lock.acquire()


class HandsOutDictionaries(Good):
    """What it returns can be written to."""

    def load(self, key):
        entry = super().load(key)
        return entry and (SimpleNamespace(leases=dict(entry[0].leases)), entry[1])


class SeeksGhosts(Seeks):
    def seek(self, prefix, owner):
        return super().seek(prefix, owner) or ["contract/4/60541e"]


class SeeksRecent(Seeks):
    """Remembers the owners of the last blocks."""

    def note(self, key, old, new):
        super().note(key, old, new)
        if len(self.index) > 100:
            del self.index[next(iter(self.index))]


class FilesSeekAlone(LockedFiles):
    """An index in the memory of each process."""

    def __init__(self, other=None):
        super().__init__(other)
        self.found = {}

    def swap(self, key, new, expected):
        won = super().swap(key, new, expected)
        if won:
            self.found[key] = new
        return won

    def seek(self, prefix, owner):
        return [
            key
            for key, block in self.found.items()
            if block and key.startswith(prefix)
            for lease in block.leases.values()
            if lease.owner.ifname == owner.ifname
            and (
                lease.owner.container_id == owner.container_id
                or (owner.pod_uid and lease.owner.pod_uid == owner.pod_uid)
            )
        ]


CAUGHT_BY = [
    (NotEmpty, "test_is_empty_when_new"),
    (CreatesNothing, "test_creates"),
    (ClosesOnce, "test_closing_twice_is_allowed"),
    (HandsOutDictionaries, "test_values_cannot_be_changed_from_outside"),
    (SeeksGhosts, "test_seeks_nothing_in_an_empty_store"),
    (SeeksRecent, "test_seeks_among_many_blocks"),
    (HalfWritten, "test_killed_processes_leave_whole_blocks"),
    (WrittenLater, "test_killed_processes_leave_whole_blocks"),
    (LeavesItsLock, "test_killed_processes_leave_whole_blocks"),
    (FilesSeekAlone, "test_processes_seek_what_they_swapped"),
    (LostUpdate, "test_does_not_create_twice"),
    (LostUpdate, "test_replaces_the_version_that_was_loaded"),
    (LostUpdate, "test_agrees_with_a_dictionary"),
    (CheckThenAct, "test_one_of_many_threads_creates"),
    (CheckThenAct, "test_threads_lose_no_update"),
    (VersionsPerBlock, "test_versions_never_come_back"),
    (VersionsPerBlock, "test_agrees_with_a_dictionary"),
    (VersionsByContent, "test_versions_never_come_back"),
    (VersionsByContent, "test_replacing_by_the_same_content_is_a_replacement"),
    (DeletesAnything, "test_deletes_the_version_that_was_loaded"),
    (CreatesOnUpdate, "test_does_not_replace_what_is_gone"),
    (SaysYes, "test_does_not_create_twice"),
    (FoldsCase, "test_keeps_keys_apart"),
    (CutsKeys, "test_keeps_keys_apart"),
    (Unordered, "test_keeps_keys_apart"),
    (Listing, "test_does_not_replace_what_is_gone"),
    (SixtyFourBits, "test_keeps_every_value"),
    (DropsLeases, "test_keeps_a_full_block"),
    (Seconds, "test_keeps_a_full_block"),
    (Remembers, "test_handles_see_each_other"),
    (Forgets, "test_blocks_outlive_the_store"),
    (LostUpdate, "test_threads_are_linearizable"),
    (LostUpdate, "test_threads_allocate_as_if_one_after_the_other"),
    (KeepsTwo, "test_keeps_many_blocks"),
    (Unlocked, "test_threads_are_linearizable"),
    (TwoSteps, "test_threads_are_linearizable"),
    (StaleReads, "test_threads_are_linearizable"),
    (DirtyFailure, "test_threads_are_linearizable"),
    (StaleKeys, "test_threads_are_linearizable"),
    (UnlockedFiles, "test_processes_lose_no_update"),
    (UnlockedFiles, "test_processes_are_linearizable"),
    (UnlockedFiles, "test_processes_allocate_as_if_one_after_the_other"),
    (RowsByAddress, "test_keeps_every_change"),
    (RowsByAddress, "test_agrees_with_a_dictionary"),
    (RowsByNumber, "test_agrees_with_a_dictionary"),
    (RowsStay, "test_keeps_every_change"),
    (NewsOnly, "test_agrees_with_a_dictionary"),
    (Loses, "test_keeps_every_value"),
    (LosesHolder, "test_keeps_every_value"),
    (LosesRecalled, "test_keeps_every_value"),
    (LosesClaim, "test_keeps_every_value"),
    (FreesForEver, "test_keeps_every_change"),
    (EightBits, "test_keeps_a_full_block"),
    (EightBits, "test_keeps_every_value"),
    (Unordered, "test_keys_of_blocks_come_in_the_order_of_addresses"),
    (SeeksNoPods, "test_seeks_by_container_and_by_pod"),
    (SeeksNoPods, "test_agrees_with_a_dictionary"),
    (SeeksNoRenewals, "test_seeks_after_every_change"),
    (SeeksNoRenewals, "test_agrees_with_a_dictionary"),
    (SeeksLosers, "test_seeks_as_before_after_a_swap_that_lost"),
    (SeeksOne, "test_seeks_in_every_block"),
    (SeeksNothing, "test_seeks_any_owner_of_any_block"),
    (SeeksByPattern, "test_seeks_odd_names"),
    (SeeksAlone, "test_handles_seek_what_others_swapped"),
    (SeeksLate, "test_seeks_after_every_change"),
    (SeeksLate, "test_threads_seek_what_they_swapped"),
    (SeeksEverywhere, "test_seeks_under_the_prefix_only"),
    (SeeksUnlocked, "test_threads_seek_what_they_swapped"),
    (Good, "test_seeks_what_it_says"),
]


def contract_of(store):
    class Contract(StoreContract):
        durable = multi_process = seeks = True

        def open(self):
            return store()

        def reopen(self, opened):
            return store() if store is Forgets else store(opened)

    return Contract()


@pytest.mark.parametrize(("store", "test"), CAUGHT_BY)
def test_broken_store_is_caught(store, test):
    def contract_is_met():
        # Of threads and processes that really run at once not every run has a race in it, and of
        # generated values not every fifty have the one that counts.
        for _ in range(8):
            getattr(contract_of(store), test)()

    # What a broken store raises by itself.
    own = {ClosesOnce: AttributeError, HalfWritten: ValueError}.get(store, AssertionError)
    with pytest.raises((AssertionError, pytest.fail.Exception, own)):
        contract_is_met()


@pytest.mark.parametrize("field", ["owner", "claim", "sequence", "node", "since", "pool"])
def test_leases_taken_for_others_are_caught(field):
    with pytest.raises(AssertionError):
        contract_of(RowsByAddress).test_keeps_a_change_of_one_lease(field)


@pytest.mark.parametrize(
    "change", [{"sequence": 9}, {"freed": {}}, {"holder": "n"}, {"recalled": True}]
)
def test_changes_without_a_lease_that_are_not_kept_are_caught(change):
    with pytest.raises(AssertionError):
        contract_of(NewsOnly).test_keeps_a_change_of_one_field(change)


def test_wildcards_in_prefixes_are_caught():
    with pytest.raises(AssertionError):
        contract_of(Like).test_keys_start_with_the_prefix("a_")


# Those are held to it with one parameter or another, above and below.
PARAMETERS = {
    "test_keeps_a_change_of_one_field",
    "test_keeps_a_change_of_one_lease",
    "test_keys_start_with_the_prefix",
}


def test_every_test_of_the_contract_catches_something():
    every = {name for name in dir(StoreContract) if name.startswith("test_")}
    assert every == {test for _, test in CAUGHT_BY} | PARAMETERS


SOUND = sorted({test for _, test in CAUGHT_BY} - {"test_seeks_what_it_says"})


@pytest.mark.parametrize("store", [Good, Seeks, SeeksTooMuch])
@pytest.mark.parametrize("test", [*SOUND, "test_seeks_what_it_says"])
def test_the_store_they_break_is_sound(store, test):
    contract = contract_of(store)
    # Handles of it share a dictionary: that is as good as a store for threads, not for processes.
    contract.multi_process = "process" not in test
    contract.seeks = store is not Good
    contract.durable = True
    if "process" in test or ("seek" in test and store is Good):
        pytest.skip("no claim of this store")
    getattr(contract, test)()


@pytest.mark.parametrize(
    "test",
    ["test_killed_processes_leave_whole_blocks"]
    + [test for store, test in CAUGHT_BY if store is UnlockedFiles],
)
def test_the_files_they_break_are_sound(test):
    getattr(contract_of(LockedFiles), test)()


def test_a_process_that_fails_fails_the_test(capfd):
    from podnet.testing.together import in_processes

    def child(number):
        assert number != 1, "as planned"

    with pytest.raises(AssertionError, match="exit codes"):
        in_processes(2, child)
    assert "as planned" in capfd.readouterr().err


def test_blocks_are_immutable_values():
    block = Block(domain="d", version=4, index=0)
    with pytest.raises(TypeError):
        block.leases[0] = None
