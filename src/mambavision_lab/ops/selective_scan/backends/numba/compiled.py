"""Compile the numba kernels once on a machine, then read their machine code from a file.

The file is a plain object that calls nothing outside itself, so reading it needs LLVM but not numba,
whose import and start would take longer than most calls. Its name holds a hash of the kernels' source,
of the versions and of the processor: when any of them changes, old files are ignored.
"""

import contextlib
import gc
import hashlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mambavision_lab.errors import reason
from mambavision_lab.files import write_atomically

log = logging.getLogger(__name__)
_lock = threading.Lock()
_kernels: dict[str, tuple[Any, int]] = {}  # the engine, which owns the code, and the address
_SOURCES = [
    Path(__file__).with_name(f"{name}.py")
    for name in ("compiled", "call", "vectors", "blocks", "kernels")
]


def cache_folder() -> Path:
    """Return the folder of compiled kernels: NUMBA_CACHE_DIR, or in the user's cache folder."""
    if given := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(given)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "mambavision_lab"


def kernel_address(name: str) -> int:
    """Return the address of a kernel, void (void *): read from its file, or compiled now."""
    with _lock:
        if name not in _kernels:
            engine = _load(name)
            _kernels[name] = engine, engine.get_function_address(name)
        return _kernels[name][1]


def is_compiled() -> bool:
    """Return whether there is a file of the forward kernel, which then needs no import of numba."""
    return _read(_key_and_machine()[0], "forward") is not None


def _load(name: str) -> Any:
    from llvmlite import binding as llvm

    key, machine = _key_and_machine()
    content = _read(key, name)
    if content is None:
        content = _compile(name, machine)
        _write(key, name, content)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(content))
    engine.finalize_object()
    return engine


def _key_and_machine() -> tuple[str, Any]:
    from llvmlite import binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        codemodel="jitdefault",
        jit=True,
    )
    parts = [*(path.read_bytes() for path in _SOURCES), machine.triple.encode()]
    parts += [version(package).encode() for package in ("numba", "llvmlite")]
    parts += [llvm.get_host_cpu_name().encode(), llvm.get_host_cpu_features().flatten().encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:24], machine


def _compile(name: str, machine: Any) -> bytes:
    """Compile a kernel by numba and LLVM to an object file that needs no other code."""
    from llvmlite import binding as llvm

    with _without_garbage_collection(), _without_numba_optimisation():
        from mambavision_lab.ops.selective_scan.backends.numba import kernels

        library, entry = kernels.compile_kernel(name)
    module = llvm.parse_assembly(library.get_llvm_str())
    for function in module.functions:
        if function.name == entry:
            function.name = name
            function.linkage = "external"
        elif not function.is_declaration:
            # Internal functions are removed if unused, such as those that report Python's errors.
            function.linkage = "internal"
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    return machine.emit_object(module)


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Pause garbage collection: it takes a tenth of the time to compile, and frees nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextlib.contextmanager
def _without_numba_optimisation() -> Iterator[None]:
    """Keep numba from optimising each function alone; `_compile` optimises the whole afterwards."""
    from numba.core import config

    before = config.OPT  # type: ignore[attr-defined]
    config.OPT = config._OptLevel("0")  # type: ignore[attr-defined]
    try:
        yield
    finally:
        config.OPT = before  # type: ignore[attr-defined]


def _read(key: str, name: str) -> bytes | None:
    try:
        return (cache_folder() / f"{key}.{name}.o").read_bytes()
    except (OSError, RuntimeError):  # RuntimeError: there is no home folder
        return None


def _write(key: str, name: str, content: bytes) -> None:
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / f"{key}.{name}.o", content)  # other processes may be writing it
    except (OSError, RuntimeError) as error:
        log.info("compiled kernels cannot be stored, so each process compiles: %s", reason(error))
