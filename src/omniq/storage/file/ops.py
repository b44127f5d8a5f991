"""The changes a transaction makes to the files, and how they are made.

Each can be made again: after a crash the journal is replayed, whatever part of it had reached the
files. So none depends on what a file holds, only on which files there are.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec

from omniq.storage.file.folders import FILE_MODE, Folders, set_time, write_all

INDEX = ".index"
"""Folder with one entry for each task, by id: a second name of the file in its status folder."""
ASIDE = ".damaged"
"""Folder of what was found where a task belongs and is none; nothing ever reads it."""
SUFFIX = ".json"


class Put(msgspec.Struct, array_like=True, tag="P", frozen=True):
    """Write a whole file."""

    folder: str
    name: str
    data: bytes
    micros: int | None = None
    mode: int = FILE_MODE


class Drop(msgspec.Struct, array_like=True, tag="D", frozen=True):
    """Delete a file; with `prune`, its folder too if it is empty then."""

    folder: str
    name: str
    prune: bool = False


class Move(msgspec.Struct, array_like=True, tag="M", frozen=True):
    """Rename a file."""

    folder: str
    name: str
    to_folder: str
    to_name: str


class TaskWrite(msgspec.Struct, array_like=True, tag="T", frozen=True):
    """Write a task's state and bring its file to the folder of its status.

    Attributes:
        task_id, queue, stem: which task; `stem` is its file name in status folders, without suffix.
        was, to: its status folder before and after; None: it was or is nowhere.
        head: the first line of the file, without its line break.
        size: the length that line is filled up to.
        payload: the rest of the file, where that is written too: a new task, or a head that has
            outgrown its place.
        micros: the modification time of the file: when the task comes due, or finished.
    """

    task_id: str
    queue: str
    stem: str
    was: str | None
    to: str | None
    head: bytes = b""
    size: int = 0
    payload: bytes | None = None
    micros: int | None = None

    def line(self) -> bytes:
        """Return the first line, filled up, with its line break."""
        return self.head.ljust(self.size - 2) + b",\n"


Op = Put | Drop | Move | TaskWrite


def check_folders(files: Folders, ops: Sequence[Op]) -> None:
    """Make the folders that changes need.

    Raises:
        OSError: one cannot be had; found before anything is written to the journal.
    """
    for op in ops:
        match op:
            case TaskWrite():
                if op.to is not None:
                    files.make(f"{op.queue}/{op.to}")
            case Put():
                files.make(op.folder)
            case Move():
                files.make(op.to_folder)
            case Drop():
                pass


def apply(files: Folders, ops: Sequence[Op], *, again: bool = False) -> None:
    """Make changes in order; with `again`, some or all of them may have been made before."""
    for op in ops:
        match op:
            case TaskWrite():
                _write_task(files, op, again=again)
            case Put():
                _put(files, op)
            case Drop():
                files.delete(op.folder, op.name)
                if op.prune:
                    files.prune(op.folder)
            case Move():
                _move(files, op)


def _put(files: Folders, op: Put) -> None:
    """Write a file. All who read hold the lock, so a new one may grow under its own name."""
    where = op.folder, op.name, op.data
    if not files.create(*where, micros=op.micros, mode=op.mode):
        files.write(*where, micros=op.micros, mode=op.mode)


def _move(files: Folders, op: Move) -> None:
    try:
        files.rename(op.folder, op.name, op.to_folder, op.to_name)
    except FileNotFoundError:
        return  # moved before, or taken away by hand


def _write_task(files: Folders, op: TaskWrite, *, again: bool) -> None:
    if op.to is None:
        _leave_one(files, op)
        files.delete(INDEX, op.task_id + SUFFIX)
        return
    links = _write_file(files, op)
    if not links:
        return
    name, there = op.stem + SUFFIX, f"{op.queue}/{op.to}"
    if op.was is None or links == 1:
        _publish(files, op.task_id + SUFFIX, there, name)
    elif op.was != op.to:
        try:
            files.rename(f"{op.queue}/{op.was}", name, there, name)
        except FileNotFoundError:
            _publish(files, op.task_id + SUFFIX, there, name)
    if op.was != op.to and (again or links == 1):
        _leave_one(files, op)


def _write_file(files: Folders, op: TaskWrite) -> int:
    """Write the file under its name in the index, which it keeps for life.

    Returns how many names it has: 2, or 1 when a copy of the store made two files of one. 0 means
    that it is gone: purged later in the journal that is replayed.
    """
    flags = os.O_WRONLY if op.payload is None else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    try:
        file = files.open_file(INDEX, op.task_id + SUFFIX, flags, make=op.payload is not None)
    except FileNotFoundError:
        return 0
    line = op.line()
    try:
        write_all(file, line if op.payload is None else line + op.payload)
        if op.micros is not None:
            set_time(file, op.micros)
        return os.fstat(file).st_nlink
    finally:
        os.close(file)


def _publish(files: Folders, index_name: str, folder: str, name: str) -> None:
    """Show a task in its status folder."""
    try:
        files.link(INDEX, index_name, folder, name)
    except FileExistsError:
        _clear(files, folder, name)
        files.link(INDEX, index_name, folder, name)


def _clear(files: Folders, folder: str, name: str) -> None:
    """Take away what stands where a task belongs: an older file, or a folder somebody put there."""
    try:
        files.delete(folder, name)
    except OSError:
        files.rename(folder, name, ASIDE, f"{folder.replace('/', '~')}~{name}")


def _leave_one(files: Folders, op: TaskWrite) -> None:
    """Take the task out of the folder it left: renaming a file onto itself does nothing."""
    if op.was is not None:
        files.delete(f"{op.queue}/{op.was}", op.stem + SUFFIX)
