"""Overrides that name files and folders are taken literally."""

from pathlib import Path

import pytest
from composing import check
from hydra.core.override_parser.overrides_parser import OverridesParser

from mambavision_lab.config.compose import Composer, package_source
from mambavision_lab.config.paths import literal_path, path_override, read_path

NAMES = [
    *("my logs, v=2 (größe)", "a=b", "a,b", "a(b", "choice(a,b)", "glob(*)", "[a]", "{a}", "a]"),
    *("it's", 'a"b', "a#b", "a&b", "~x", "2012", "1e5", " a ", "a\\b", "end\\", "a$b", "a\nb"),
    *("日本", "@a", "a:b", "a%20b", "a;b!", "*?", "'it' s'", "nan"),
]


def read(override):
    return OverridesParser.create().parse_override(override).value()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["data.root", "+callbacks.x.dirpath"])
def test_path_is_read_by_hydra_as_it_was_typed(name, key):
    assert read(literal_path(f"{key}=/no/{name}", is_multirun=False)) == f"/no/{name}"
    assert read(literal_path(f"{key}={name}", is_multirun=False)) == name


@pytest.mark.parametrize(
    "override",
    [
        *("output=null", "model.pretrained=true", "data.root='a b'", "data.root='a','b'"),
        *("data.root=${paths.data_dir}/x", "data.root=plain/path.d", "~data.root", "name=a,b"),
    ],
)
def test_what_has_a_meaning_or_names_no_path_stays(override):
    assert literal_path(override, is_multirun=False) == override


def test_reference_beside_syntax_is_still_a_reference():
    override = literal_path("data.root=${paths.data_dir}/a, b", is_multirun=False)
    assert override == "data.root='${paths.data_dir}/a, b'"


def test_comma_separates_values_of_a_sweep_unless_the_path_is_there(tmp_path, refusal):
    (tmp_path / "a,b").mkdir()
    there, missing = f"data.root={tmp_path}/a,b", "data.root=/no/a,/no/b"
    assert literal_path(there, is_multirun=True) == f"data.root='{tmp_path}/a,b'"
    assert literal_path(missing, is_multirun=True) == missing
    # How a sweep runs is not swept.
    assert read(literal_path("hydra.sweep.dir=/no/a,b", is_multirun=True)) == "/no/a,b"
    message = refusal(lambda: literal_path("images=/no/a (1),/no/b", is_multirun=True))
    assert "for one path type \"images='/no/a (1),/no/b'\"" in message
    assert "for several \"images='/no/a (1)','/no/b'\"" in message


def test_dollar_and_brace_of_an_existing_folder_are_literal(tmp_path):
    folder = tmp_path / "a${b}"
    folder.mkdir()
    composer = Composer(package_source("analyze"), "analyze")
    given = [
        literal_path(f"output={folder}/new", is_multirun=False),
        path_override("ckpt_path", folder),
    ]
    cfg = composer.compose(given)
    assert (cfg.output, cfg.ckpt_path) == (f"{folder}/new", str(folder))
    assert read_path(given[1].partition("=")[2]) == str(folder)


def test_home_is_expanded_on_the_command_line_and_in_configs(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "experiment").mkdir()
    config = "# @package _global_\npaths: {data_dir: ~/data}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(config)
    source = package_source("train")
    composer = Composer(
        type(source)(source.name, source.location, (f"file://{tmp_path}",)), "train"
    )
    override = literal_path("ckpt_path=~/a b", is_multirun=False)
    cfg = composer.compose(["experiment=mine", override, "name='~x'"])
    assert cfg.ckpt_path == f"{tmp_path}/a b"
    assert cfg.paths.data_dir == f"{tmp_path}/data"
    assert cfg.name == "~x"
    assert read_path("~/x") == f"{tmp_path}/x"
    monkeypatch.setenv("MAMBAVISION_LOGS", "~/logs")
    assert composer.compose([]).paths.log_dir == f"{tmp_path}/logs"


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("name=my run (2)", "type \"name='my run (2)'\""),
        ("hydra.searchpath=[file:///a (b)]", "type \"hydra.searchpath=['file:///a (b)']\""),
    ],
)
def test_text_that_hydra_cannot_read_is_refused_with_the_line_to_type(override, line, refusal):
    assert line in refusal(lambda: check("train", override))


def test_folders_of_any_name_are_taken_by_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("train/a", "train/b"):
        Path("my images, v=2 (größe)", name).mkdir(parents=True)
    overrides = ["data=image_folder", "data.root=my images, v=2 (größe)", "paths.log_dir=it's, 2"]
    jobs = check("train", *overrides, "seed=1")
    assert jobs == [
        [overrides[0], f"data.root='{overrides[1][10:]}'", "paths.log_dir='it\\'s, 2'", "seed=1"]
    ]
    assert len(check("train", "-m", *overrides, "seed=1,2")) == 2
