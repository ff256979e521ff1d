"""A directory whose files may come from a stranger, or that others can write to: no link in it is followed.

Every file of a run directory, a training run or a comparison is opened, written, listed and removed here.

Checking a path and then opening it by name leaves a gap in which another process can put a link there. So each folder is
opened relative to the one above it (`dir_fd`) without following links, and the open file is checked again (`fstat`): what
is swapped between a check and its use leads nowhere outside.
"""

import errno
import json
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal

from robustbench_sgdm.core.errors import RobustBenchError, UnsafeFileError

_HAS_HANDLES = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW") and hasattr(os, "O_DIRECTORY")
"""Whether files can be opened from an open folder. Where not (Windows), names are looked at before and after opening."""

_BUFFER = 2**16  # bytes; given, since Python else asks the system whether each file is a terminal
_MAX_DEPTH = 32  # folders; a run has 5
_DIRECTORY_FLAGS = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
# Never wait for the other end of a pipe, let a terminal take over the process, or change line ends.
_OPEN_FLAGS = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_MODE_FLAGS = {
    "rb": os.O_RDONLY,
    "r+b": os.O_RDWR,
    "a+b": os.O_RDWR | os.O_APPEND | os.O_CREAT,
}
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFREG: "a regular file",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
# Windows' links.
_LINK_TAGS = {getattr(stat, f"IO_REPARSE_TAG_{tag}", -1) for tag in ("SYMLINK", "MOUNT_POINT")}


class SafeDirectory:
    """A directory whose files are its own: reached without links, regular, and with one name each.

    A `str` is relative to the directory, a `Path` begins with its path. The directory itself may be reached through
    links: whoever names it chose them. It must stay the same one for as long as this object is used.

    Attributes:
        path: the directory; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity: tuple[int, int] | None = None

    def __repr__(self) -> str:
        return f"SafeDirectory({str(self.path)!r})"

    def open(self, path: Path | str, mode: Literal["rb", "r+b", "a+b"] = "rb") -> BinaryIO:
        """Open a file; `a+b` makes it, and its folders, as needed.

        Raises:
            FileNotFoundError: it is not there.
            UnsafeFileError: it is not a regular file of one name, or a link leads to it.
        """
        *folders, name = self._parts(path)
        if makes := mode == "a+b":
            self.path.mkdir(parents=True, exist_ok=True)
        with self._open_folder(folders, make=makes) as folder:
            return os.fdopen(_open(folder, name, _MODE_FLAGS[mode]), mode, _BUFFER)

    def read_bytes(self, path: Path | str, max_bytes: int | None = None) -> bytes:
        """The content of a file, or its first `max_bytes` bytes; raises as `open`."""
        with self.open(path) as file:
            return file.read() if max_bytes is None else file.read(max_bytes)

    def read_text(self, path: Path | str) -> str:
        """The content of a file in UTF-8; raises as `open`."""
        return self.read_bytes(path).decode("utf-8")

    def stat(self, path: Path | str) -> os.stat_result | None:
        """What the system says of a file; None where nothing is there.

        Raises:
            UnsafeFileError: as `open`.
        """
        *folders, name = self._parts(path)
        try:
            with self._open_folder(folders) as folder:
                status = folder.stat(name)
        except (FileNotFoundError, NotADirectoryError):  # the latter of the directory itself
            return None
        _check_file(status, folder.place(name))
        return status

    def is_file(self, path: Path | str) -> bool:
        """Whether a file is there that can be opened; raises as `stat`."""
        return self.stat(path) is not None

    def names(self, path: Path | str = "") -> list[str]:
        """The sorted names in a folder, of whatever kind; none where it is not there.

        Raises:
            UnsafeFileError: it is not a directory, or a link leads to it.
        """
        try:
            with self._open_folder(self._parts(path)) as folder:
                return sorted(folder.names())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def walk(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Every entry below the directory but folders; links are not followed, vanished entries are skipped.

        Raises:
            UnsafeFileError: folders lie deeper than any run's.
        """
        todo: list[tuple[str, ...]] = [()]
        while todo:
            parts = todo.pop()
            if len(parts) > _MAX_DEPTH:
                raise UnsafeFileError(
                    f"{self.path.joinpath(*parts)} is nested deeper than {_MAX_DEPTH} folders; remove it"
                )
            with suppress(FileNotFoundError), self._open_folder(parts) as folder:
                for name in sorted(folder.names()):
                    with suppress(FileNotFoundError):
                        status = folder.stat(name)
                        if stat.S_ISDIR(status.st_mode) and not _is_link(status):
                            todo.append((*parts, name))
                        else:
                            yield Path(folder.place(name)), status

    def check(self) -> None:
        """Refuse a tree that holds anything but folders and files of its own: for programs that write by path.

        Raises:
            UnsafeFileError: names the first such entry.
        """
        for path, status in self.walk():
            _check_file(status, path)

    def write(self, path: Path | str, fill: Callable[[BinaryIO], object], *, sync: bool = True) -> None:
        """Write a file atomically: `fill` writes a new neighbour, which is synced and renamed.

        A reader sees the old file or the new one, never a part. Folders are made as needed. A link of that name is
        replaced, not followed. Without `sync` a power cut, not a crash of the program, may leave the file empty: for
        what can be made again.

        Raises:
            RobustBenchError: no permission, no space, or a file where a folder must be.
            UnsafeFileError: a link in the place of a folder.
        """
        *folders, name = self._parts(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with self._open_folder(folders, make=True) as folder:
                temporary = f".{name}.{uuid.uuid4().hex}"
                try:
                    new = _open(folder, temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL)
                    with os.fdopen(new, "w+b") as file:
                        fill(file)
                        file.flush()
                        if sync:
                            os.fsync(file.fileno())
                    folder.rename(temporary, name)
                finally:
                    with suppress(FileNotFoundError):
                        folder.unlink(temporary)
        except OSError as error:
            raise RobustBenchError(
                f"cannot write {self.path.joinpath(*folders, name)}: {error.strerror or error}; free space, or choose "
                "another place (--project; for the cache ROBUSTBENCH_CACHE). What is written is kept: run the same "
                "command again to resume"
            ) from error

    def write_bytes(self, path: Path | str, data: bytes, *, sync: bool = True) -> None:
        """Write bytes atomically."""
        self.write(path, lambda file: file.write(data), sync=sync)

    def write_text(self, path: Path | str, text: str) -> None:
        """Write text atomically as UTF-8, lines ended as they are."""
        self.write_bytes(path, text.encode())

    def write_json(self, path: Path | str, content: Any) -> None:
        """Write json atomically, keys in the order given."""
        self.write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")

    def rename(self, path: Path | str, name: str) -> None:
        """Give a file another name in its folder, in place of what has that name.

        Raises:
            UnsafeFileError: as `open`.
        """
        *folders, old = self._parts(path)
        with self._open_folder(folders) as folder:
            _check_file(folder.stat(old), folder.place(old))
            folder.rename(old, name)

    def unlink(self, path: Path | str) -> None:
        """Remove a file, or a link and not what it leads to; nothing where it is not there."""
        *folders, name = self._parts(path)
        with suppress(FileNotFoundError), self._open_folder(folders) as folder:
            folder.unlink(name)

    def remove_folder(self, path: Path | str, *, empty: bool = False) -> None:
        """Remove a folder with all that lies in it, or only if it is `empty`; what cannot be removed stays."""
        *folders, name = self._parts(path)
        with suppress(OSError), self._open_folder(folders) as folder:
            folder.rmdir(name) if empty else folder.rmtree(name)

    def _parts(self, path: Path | str) -> list[str]:
        """The names on the way from the directory; as text, since a run has tens of thousands of files."""
        text = os.fspath(path)
        if isinstance(path, Path):
            own = os.path.join(self.path, "") if self.path.name else self.path.anchor  # noqa: PTH118  ends with a slash
            if not f"{text}{os.sep}".startswith(own):
                raise ValueError(f"{path} does not lie in {self.path}")
            text = "" if path == self.path else text[len(own) :]
        parts = text.replace("/", os.sep).split(os.sep) if text else []  # noqa: PTH206
        if not {"", ".", ".."}.isdisjoint(parts) or os.path.splitdrive(text)[0]:
            raise ValueError(f"{path} does not lie in {self.path}")
        return parts

    @contextmanager
    def _open_folder(self, parts: Sequence[str], *, make: bool = False) -> Iterator["_Folder"]:
        """The folder below the directory that these names lead to, open."""
        handle = os.open(self.path, _DIRECTORY_FLAGS | getattr(os, "O_CLOEXEC", 0)) if _HAS_HANDLES else None
        folder = _Folder(str(self.path), handle)
        try:
            self._check_identity(folder)
            for name in parts:
                above, folder = folder, folder.enter(name, make=make)
                above.close()
            yield folder
        finally:
            folder.close()

    def _check_identity(self, folder: "_Folder") -> None:
        """Refuse another directory under the same path: whoever can write the folder above could put a link there."""
        status = self.path.stat() if folder.handle is None else os.fstat(folder.handle)
        identity = status.st_dev, status.st_ino
        if self._identity not in (None, identity):
            raise UnsafeFileError(f"{self.path} was replaced while it was in use; start again")
        self._identity = identity


class _Folder:
    """An open folder; where the system cannot open one, its path."""

    def __init__(self, path: str, handle: int | None) -> None:
        self.path, self.handle = path, handle

    def place(self, name: str) -> str:
        return os.path.join(self.path, name)  # noqa: PTH118  quicker, and there are tens of thousands

    def close(self) -> None:
        if self.handle is not None:
            os.close(self.handle)
            self.handle = None

    def enter(self, name: str, *, make: bool) -> "_Folder":
        path = self.place(name)
        if make:
            with suppress(FileExistsError):
                os.mkdir(self._name(name), dir_fd=self.handle)
        if self.handle is None:
            status = self.stat(name)
            _check_folder(status, path)
            return _Folder(path, None)
        try:
            return _Folder(path, os.open(name, _DIRECTORY_FLAGS | _OPEN_FLAGS, dir_fd=self.handle))
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP, errno.EMLINK):  # EMLINK: FreeBSD's ELOOP
                raise
            _check_folder(self.stat(name), path)
            raise

    def stat(self, name: str) -> os.stat_result:
        return os.stat(self._name(name), dir_fd=self.handle, follow_symlinks=False)

    def open(self, name: str, flags: int) -> int:
        return os.open(self._name(name), flags | _OPEN_FLAGS, 0o666, dir_fd=self.handle)

    def names(self) -> list[str]:
        return os.listdir(self.path if self.handle is None else self.handle)  # noqa: PTH208

    def rename(self, old: str, new: str) -> None:
        os.replace(self._name(old), self._name(new), src_dir_fd=self.handle, dst_dir_fd=self.handle)

    def unlink(self, name: str) -> None:
        os.unlink(self._name(name), dir_fd=self.handle)

    def rmdir(self, name: str) -> None:
        os.rmdir(self._name(name), dir_fd=self.handle)

    def rmtree(self, name: str) -> None:
        shutil.rmtree(self._name(name), ignore_errors=True, dir_fd=self.handle)

    def _name(self, name: str) -> str:
        return self.place(name) if self.handle is None else name


def _open(folder: _Folder, name: str, flags: int) -> int:
    """Open a file of a folder; its kind is looked at before, since opening a device does something, and after."""
    path, before = folder.place(name), None
    with suppress(FileNotFoundError):
        before = folder.stat(name)
        _check_file(before, path)
    try:
        handle = folder.open(name, flags)
    except OSError:
        with suppress(FileNotFoundError):  # swapped meanwhile, for a link or a socket
            _check_file(folder.stat(name), path)
        raise
    try:
        status = os.fstat(handle)
        _check_file(status, path)
        if before is not None and folder.handle is None and not os.path.samestat(before, status):
            raise UnsafeFileError(f"{path} was replaced while it was opened; start again")
    except BaseException:
        os.close(handle)
        raise
    return handle


def _check_file(status: os.stat_result, path: Path | str) -> None:
    _refuse_link(status, path)
    if not stat.S_ISREG(status.st_mode):
        raise UnsafeFileError(f"{path} is {_kind(status)}, not a regular file; remove it")
    if status.st_nlink > 1:
        raise UnsafeFileError(
            f"{path} is a hard link: its file has {status.st_nlink} names, and others may lie outside this directory. "
            "Copy the directory with cp -r and use the copy, or remove the file"
        )


def _check_folder(status: os.stat_result, path: str) -> None:
    _refuse_link(status, path)
    if not stat.S_ISDIR(status.st_mode):
        raise UnsafeFileError(f"{path} is {_kind(status)}, not a directory; remove it")


def _refuse_link(status: os.stat_result, path: Path | str) -> None:
    if _is_link(status):
        raise UnsafeFileError(
            f"{path} is a link, and links within a run directory are not followed: they can lead anywhere. Replace it by "
            "what it leads to, or remove it"
        )


def _is_link(status: os.stat_result) -> bool:
    return stat.S_ISLNK(status.st_mode) or getattr(status, "st_reparse_tag", 0) in _LINK_TAGS


def _kind(status: os.stat_result) -> str:
    return _KINDS.get(stat.S_IFMT(status.st_mode), "of another kind")
