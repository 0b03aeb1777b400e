"""Where caches lie: in the user's cache directory, or in a temporary folder where nothing else can be written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, MutableMapping
from functools import cache
from pathlib import Path

from stepcredit.envs.contract import EnvError
from stepcredit.envs.notice import say_once

CACHE = "STEPCREDIT_CACHE"
NUMBA, MATPLOTLIB, HUB = "NUMBA_CACHE_DIR", "MPLCONFIGDIR", "HF_HOME"


def cache_root(environ: Mapping[str, str]) -> Path:
    """$STEPCREDIT_CACHE, or stepcredit/ in the user's cache directory, or a temporary folder, which is said once.

    Raises:
        EnvError: $STEPCREDIT_CACHE names nobody's home, or no folder can be written.
    """
    if environ.get(CACHE):
        try:
            return Path(environ[CACHE]).expanduser().absolute()
        except RuntimeError as error:
            raise EnvError(f"{CACHE} is {environ[CACHE]!r}, and there is no such home; name a folder") from error
    usual = _user_folder(environ, "XDG_CACHE_HOME", ".cache")
    if usual is not None and writable(usual / "stepcredit"):
        return usual / "stepcredit"
    found = temporary()
    tried = "there is no home directory" if usual is None else f"{usual} cannot be written"
    say_once(f"{tried}, so caches go to {found}; set {CACHE} to a folder that is kept")
    return found


def settle(environ: MutableMapping[str, str]) -> None:
    """Where the caches of numba, matplotlib or the Hugging Face hub cannot be written, lead them to a folder that can.

    To be called before those are imported; child processes inherit the variables.
    """
    redirected = _redirected(environ)
    if not redirected and _usual_is_writable(environ):
        return
    try:
        root = cache_root(environ)
    except EnvError:
        return  # whoever needs the cache reports it
    if not writable(root):
        return
    environ.update({name: str(root / below) for name, below in redirected.items()})
    environ.setdefault(CACHE, str(root))


def in_use(environ: Mapping[str, str]) -> dict[str, str]:
    """For each kind of cache the folder that it is kept in, as a message tells it.

    Raises:
        EnvError: no folder can be written.
    """
    root = cache_root(environ)
    note = "" if writable(root) else " (cannot be written)"
    if root == _temporary_name():
        note = f" (temporary: the usual place cannot be written; set {CACHE})"
    return {
        "cache": f"{root}{note}",
        "cache numba": environ.get(NUMBA) or "beside the source, or numba's own place in the user's cache directory",
        "cache plots": environ.get(MATPLOTLIB) or str(_below(environ, "XDG_CONFIG_HOME", ".config", "matplotlib")),
        "cache hub": environ.get(HUB) or str(_below(environ, "XDG_CACHE_HOME", ".cache", "huggingface")),
    }


def writable(folder: Path) -> bool:
    """Whether files can be written in the folder, or the folder be made; leaves no trace."""
    try:
        while not folder.exists():
            folder = folder.parent
        with tempfile.TemporaryDirectory(dir=folder, prefix=".stepcredit-"):
            return True
    except OSError:
        return False


def temporary() -> Path:
    """A folder for caches below the system's temporary one, this user's alone.

    Raises:
        EnvError: there is none that can be written.
    """
    try:
        folder = _temporary_name()
        folder.mkdir(mode=0o700, exist_ok=True)
        mine = folder.lstat().st_uid == os.getuid() and not folder.is_symlink()
        return folder if mine and writable(folder) else _of_this_process()
    except OSError as error:
        raise EnvError(f"no folder for caches can be written ({error}); set {CACHE} to one that can") from error


@cache
def _of_this_process() -> Path:
    return Path(tempfile.mkdtemp(prefix="stepcredit-"))


def _temporary_name() -> Path:
    return Path(tempfile.gettempdir()) / f"stepcredit-{os.getuid()}"


def _redirected(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables to set, and the folders below the cache's root that they should name."""
    found = {}
    if not environ.get(NUMBA) and not (writable(Path(__file__).parent) or _writes(environ, "numba")):
        found[NUMBA] = "numba"
    if not environ.get(MATPLOTLIB) and not (
        _writes(environ, "matplotlib") and _writes(environ, "matplotlib", "XDG_CONFIG_HOME", ".config")
    ):
        found[MATPLOTLIB] = "matplotlib"
    if not environ.get(HUB) and not _writes(environ, "huggingface"):
        found.update(_hub(environ))
    return found


def _hub(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """A hub's cache that can only be read keeps its models; what has to be written goes elsewhere."""
    usual = _below(environ, "XDG_CACHE_HOME", ".cache", "huggingface")
    if usual is None or not os.access(usual / "hub", os.R_OK | os.X_OK):
        yield HUB, "huggingface"
        return
    for name, below in (("HF_DATASETS_CACHE", "datasets"), ("HF_MODULES_CACHE", "modules")):
        if not environ.get(name):
            yield name, f"huggingface/{below}"


def _usual_is_writable(environ: Mapping[str, str]) -> bool:
    return bool(environ.get(CACHE)) or _writes(environ, "stepcredit")


def _writes(environ: Mapping[str, str], name: str, variable: str = "XDG_CACHE_HOME", usual: str = ".cache") -> bool:
    folder = _below(environ, variable, usual, name)
    return folder is not None and writable(folder)


def _below(environ: Mapping[str, str], variable: str, usual: str, name: str) -> Path | None:
    folder = _user_folder(environ, variable, usual)
    return None if folder is None else folder / name


def _user_folder(environ: Mapping[str, str], variable: str, usual: str) -> Path | None:
    """A folder of the XDG base directories, which ignore relative ones; None without a home."""
    given = Path(environ.get(variable, ""))
    if given.is_absolute():
        return given
    home = environ.get("HOME") or os.path.expanduser("~")
    return Path(home) / usual if os.path.isabs(home) else None
