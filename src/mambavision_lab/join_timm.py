"""Make our variants known to timm, whichever of the two packages is imported first.

timm takes seconds to import, so `import mambavision_lab` does not import it. Where timm is there already, the
variants register at once; otherwise when it is imported, right after its own modules.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_REGISTRY = "mambavision_lab.models.timm_registry"


def join_timm() -> None:
    """Register the variants now, or when timm is imported."""
    if "timm" in sys.modules:
        import_module(_REGISTRY)
    elif not any(isinstance(finder, _TimmFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TimmFinder())


class _TimmFinder(MetaPathFinder):
    """Finds timm as the others do, once, and adds to what its import runs."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "timm":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def run_and_register(module: ModuleType) -> None:
            run(module)
            import_module(_REGISTRY)

        spec.loader.exec_module = run_and_register  # type: ignore[method-assign]
        return spec
