"""The test's side of disk.c: faults of one node's disk, and what a power cut leaves of its files."""
import mmap
import os
import random
import struct
import time

FIELDS = ("stalled_until_ns", "sync_ns", "sync_errno", "write_errno", "lies", "dies_in", "writes", "syncs", "ended")
HEADER, RECORD = struct.Struct("<QQ"), struct.Struct("<QQQQ")
TRUNCATION = 2**64 - 1
FILES = ("dlock.db", "dlock.db-wal")
SECTOR = 512
POWER_CUTS = ("all is lost", "all is kept", "cut at a byte", "any sectors")


class Disk:
    """Of one node whose files are in data; its own files are in directory."""

    def __init__(self, library, directory, data):
        self.data, self.directory = data, directory
        directory.mkdir(exist_ok=True)
        self.environment = {"LD_PRELOAD": str(library), "DISK_DIRECTORY": str(directory)}
        with open(directory / "control", "a+b") as file:
            file.truncate(4096)
            self.control = mmap.mmap(file.fileno(), 4096)

    def get(self, field):
        return struct.unpack_from("<Q", self.control, 8 * FIELDS.index(field))[0]

    def set(self, field, value):
        struct.pack_into("<Q", self.control, 8 * FIELDS.index(field), value)

    def stall(self, seconds):
        """No sync returns for so long from now."""
        self.set("stalled_until_ns", time.monotonic_ns() + int(seconds * 1e9))

    def heal(self):
        for field in FIELDS[:6]:
            self.set(field, 0)

    def records(self, number):
        """[(offset, old size of the file, length written or TRUNCATION, what was there)] of the writes that were not synced."""
        path = self.directory / f"undo.{number}"
        if not path.exists():
            return []
        with open(path, "rb") as file:
            start, end = HEADER.unpack(file.read(HEADER.size))
            if end <= start:
                return []
            file.seek(start)
            data = file.read(end - start)
        found, at = [], 0
        while at < len(data):
            offset, size, old_size, written = RECORD.unpack_from(data, at)
            at += RECORD.size
            found.append((offset, old_size, written, data[at : at + size]))
            at += size
        return found

    def cut_power(self, dice, how):
        """For a node that was killed: its files become what a power cut may leave. What was synced stays."""
        for number, name in enumerate(FILES):
            path = self.data / name
            records = self.records(number)
            if records and path.exists():
                path.write_bytes(cut(bytearray(path.read_bytes()), records, dice, how))
            undo = self.directory / f"undo.{number}"
            if undo.exists():
                with open(undo, "r+b") as file:
                    file.write(HEADER.pack(HEADER.size, HEADER.size))
        # Never synced, and made anew from the WAL.
        (self.data / "dlock.db-shm").unlink(missing_ok=True)


def undo(image, record, keep=0):
    """Takes back a write, but for its first keep bytes."""
    offset, old_size, written, old = record
    if written == TRUNCATION:
        image[offset:] = old
        return
    kept = bytes(image[offset : offset + keep])
    image[offset : offset + len(old)] = old
    del image[old_size:]
    if kept:
        image[len(image) :] = bytes(max(0, offset + len(kept) - len(image)))
        image[offset : offset + len(kept)] = kept


def cut(image, records, dice, how):
    """What may be on the disk of a file with this image, of which the writes of records were not synced."""
    if how == "any sectors" and not any(written == TRUNCATION for _, _, written, _ in records):
        return cut_sectors(image, records, dice)
    first = {"all is lost": 0, "all is kept": len(records)}.get(how, dice.randrange(len(records) + 1))
    torn = first < len(records) and how not in POWER_CUTS[:2] and records[first][2] != TRUNCATION
    for record in reversed(records[first + torn :]):
        undo(image, record)
    if torn:
        undo(image, records[first], keep=dice.randrange(records[first][2] + 1))
    return image


def cut_sectors(image, records, dice):
    """The kernel writes back in any order: each sector is there or not."""
    old = bytearray(image)
    for record in reversed(records):
        undo(old, record)
    kept, end = bytearray(old), len(old)
    for at in sorted({sector for offset, _, written, _ in records for sector in range(offset // SECTOR * SECTOR, offset + written, SECTOR)}):
        if dice.random() < 0.5:
            part = image[at : at + SECTOR]
            kept[len(kept) :] = bytes(max(0, at + len(part) - len(kept)))
            kept[at : at + len(part)] = part
            end = max(end, at + len(part))
    return kept[:end]
