import inspect
import re
import subprocess
import sys

import pytest
from hydra.utils import get_object

from mambavision_lab.config.signatures import read_signature
from mambavision_lab.files import configs_folder
from mambavision_lab.lit.training_module import TrainingModule

TARGETS = sorted(
    {
        target
        for path in configs_folder().rglob("*.yaml")
        for target in re.findall(r"^\s*_target_: *(\S+)", path.read_text(), flags=re.MULTILINE)
    }
)
SLOW = {"torch", "torchvision", "lightning", "timm"}

PARTS = """
from dataclasses import dataclass

class Base:
    def __init__(self, a: int, /, b, c: "str" = "x", *rest, d: float | None = None, e):
        pass

class Child(Base):
    pass

class Open(Child):
    def __init__(self, only=1, **kwargs):
        pass

class Handing(Child):
    def __init__(self, own: int, **settings):
        super().__init__(1, b=own, **settings)

class Grandchild(Child, Open):
    size = 3

class Bare:
    pass

def function(x: list[int], y=2):
    pass
"""
MORE = """
from pkg.parts import Base as Renamed
from . import parts
from .parts import Open

class Far(Renamed):
    pass

class Near(Open):
    pass

class ThroughModule(parts.Base):
    pass
"""
BASE = {"a": "int", "b": None, "c": "'str'", "d": "float | None"}
BASE["e"] = None
HANDED = {name: kind for name, kind in BASE.items() if name != "b"} | {"own": "int"}


@pytest.fixture
def pkg(make_module):
    make_module("pkg/__init__.py", "from .parts import Child as Exported, function\n")
    make_module("pkg/parts.py", PARTS)
    make_module("pkg/more.py", MORE)


def parameters_of(target):
    """Parameters of a target; what our classes hand on with **settings is named by their base."""
    found = dict(inspect.signature(target).parameters)
    if "settings" in found:
        del found["settings"]
        given = {"metrics"} if issubclass(target, TrainingModule) else set()  # by the class itself
        found |= {p.name: p for p in parameters_of(target.__base__) if p.name not in given}
    return found.values()


@pytest.mark.parametrize("target", TARGETS)
def test_signature_read_equals_the_imported_one(target):
    read = read_signature(target)
    imported = parameters_of(get_object(target))
    named = [
        parameter.name
        for parameter in imported
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    assert sorted(read.parameters) == sorted(named)
    assert read.is_open == any(p.kind == p.VAR_KEYWORD for p in imported)
    assert read.owner == target.rpartition(".")[2]


def test_signatures_are_read_without_importing_anything_slow():
    probe = (
        "import sys; from mambavision_lab.config.signatures import read_signature\n"
        f"signatures = [read_signature(target) for target in {TARGETS}]\n"
        f"print(len(signatures), None in signatures, sorted({SLOW} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.stdout.strip() == f"{len(TARGETS)} False []", done.stderr


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("pkg.parts.Base", BASE),
        ("pkg.parts.Child", BASE),
        ("pkg.parts.Grandchild", BASE),  # of the first base that has a constructor
        ("pkg.more.Far", BASE),  # inherited through a renaming import
        ("pkg.parts.Handing", HANDED),  # its ** are passed to its base
        ("pkg.parts.function", {"x": "list[int]", "y": None}),
        ("pkg.more.Near", {"only": None}),  # inherited through a relative import
        ("pkg.more.Open", {"only": None}),  # re-exported by a module
        ("pkg.Exported", BASE),  # re-exported by a package
    ],
)
def test_signature_follows_bases_and_imports(pkg, target, expected):
    signature = read_signature(target)
    assert signature.parameters == expected
    assert signature.is_open == ("only" in expected)
    assert signature.owner in (target.rpartition(".")[2], "Child")


@pytest.mark.parametrize("target", ["math.sin", "builtins.dict", "pkg.more.ThroughModule"])
def test_signature_that_cannot_be_read_is_none(pkg, target):
    assert read_signature(target) is None


@pytest.mark.parametrize(
    ("target", "missing"),
    [
        ("nosuchpackage.parts.Base", "package 'nosuchpackage'"),
        ("pkg.nosuchmodule.Base", "module 'pkg.nosuchmodule'"),
        ("pkg.parts.Bse", "'Bse'"),
        ("Base", "full path"),
    ],
)
def test_signature_of_nothing_says_what_is_missing(pkg, target, missing):
    with pytest.raises(LookupError, match=missing):
        read_signature(target)


def test_class_without_a_constructor_takes_no_options(pkg):
    read = read_signature("pkg.parts.Bare")
    assert (read.parameters, read.is_open) == ({}, False)
