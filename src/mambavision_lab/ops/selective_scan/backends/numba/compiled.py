"""Machine code of the numba kernels: compiled once on a machine, then read from a file.

The file is a plain object that calls nothing outside itself, so reading it needs LLVM but not numba,
whose import and start would take longer than most calls. Its name holds a hash of the kernels' source,
of the versions and of the processor: whatever changes, an old file is not found.
"""

import contextlib
import gc
import hashlib
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)
_lock = threading.Lock()
_kernels: dict[str, tuple[Any, int]] = {}  # by name the engine, without which the address is void
_SOURCES = [
    Path(__file__).with_name(f"{name}.py")
    for name in ("compiled", "call", "vectors", "blocks", "kernels")
]


def cache_folder() -> Path:
    """Where compiled kernels are kept: NUMBA_CACHE_DIR, or the user's folder for such files."""
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
    """Address of a kernel, void * -> void: from the file if there is one, compiled otherwise."""
    with _lock:
        if name not in _kernels:
            engine = _load(name)
            _kernels[name] = engine, engine.get_function_address(name)
        return _kernels[name][1]


def is_compiled() -> bool:
    """Whether there is a file to go forward with, so that numba itself will not be needed for that."""
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
    """Let numba write LLVM's code for a kernel, and turn it into an object without loose ends."""
    from llvmlite import binding as llvm

    with _no_garbage_collection(), _numba_does_not_optimise():
        from mambavision_lab.ops.selective_scan.backends.numba import kernels

        library, entry = kernels.compile_kernel(name)
    module = llvm.parse_assembly(library.get_llvm_str())
    for function in module.functions:
        if function.name == entry:
            function.name = name
            function.linkage = "external"
        elif not function.is_declaration:
            # Seen to be used here alone, what reports Python's errors is found to be dead.
            function.linkage = "internal"
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    return machine.emit_object(module)


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """It would look through all that numba makes, a tenth of the time, and find nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextlib.contextmanager
def _numba_does_not_optimise() -> Iterator[None]:
    """It would optimise every function by itself, and we do so with the whole afterwards."""
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
    """Write the file whole or not at all; other processes may be doing the same."""
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(content)
        Path(file.name).replace(folder / f"{key}.{name}.o")
    except (OSError, RuntimeError) as error:
        log.info("compiled kernels cannot be kept, and will be compiled again next time: %s", error)
