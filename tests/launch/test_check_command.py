"""Which jobs a command stands for, and where its configs come from."""

import pytest
from composing import check

from mambavision_lab.files import configs_folder
from mambavision_lab.launch.prepared import _without_links


@pytest.mark.parametrize(
    ("overrides", "jobs"),
    [
        ([], [[]]),
        (["seed=1"], [["seed=1"]]),
        (["seed=1,2,3"], [["seed=1"], ["seed=2"], ["seed=3"]]),
        (["data.seed=range(2,5)"], [["data.seed=2"], ["data.seed=3"], ["data.seed=4"]]),
        (
            ["seed=1,2", "name=x", "optimizer=adamw,sgd"],
            [
                [f"seed={seed}", "name=x", f"optimizer={name}"]
                for seed in (1, 2)
                for name in ("adamw", "sgd")
            ],
        ),
        (["data.mean=[0.5],[0.4]"], [["data.mean=[0.5]"], ["data.mean=[0.4]"]]),
    ],
)
def test_jobs_of_a_sweep_are_all_enumerated(overrides, jobs):
    assert check("train", "-m", *overrides) == jobs


def test_jobs_of_a_glob_are_the_choices_that_fit():
    names = sorted(
        path.stem for path in (configs_folder() / "model").glob("mambavision_*[!d].yaml")
    )
    found = sorted(check("train", "-m", "model=glob(mambavision_*,exclude=*_3d)"))
    assert found == [[f"model={name}"] for name in names]


def test_jobs_without_sweep_are_the_command_itself():
    overrides = ["seed=1", "data.mean=[0.5]", "name='a,b'", '+data.x="1,2"'][:3]
    assert check("train", *overrides) == [overrides]


@pytest.mark.parametrize(
    ("overrides", "is_multirun", "named"),
    [
        (["seed=1,2"], False, "seed=1,2: several values need a sweep; add -m"),
        (["seed=range(3)"], False, "seed=range(3)"),
        (["seed"], False, "'seed'; wanted key=value"),
        (["seed=[1"], True, "wanted key=value"),
        (["optimizer.lr=interval(0,1)"], True, "interval"),
    ],
)
def test_jobs_that_cannot_be_enumerated_are_refused(overrides, is_multirun, named, refusal):
    message = refusal(lambda: check("train", *["-m"] * is_multirun, *overrides))
    assert named.lower() in message.lower()


@pytest.mark.parametrize("option", ["ckpt_path", "model.pretrained"])
def test_link_to_weights_is_followed_when_the_command_is_given(option, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "latest").symlink_to("run")
    assert _without_links(f"{option}={tmp_path}/latest") == f"{option}={tmp_path}/run"
    for value in ("", "null", "nvidia/MambaVision-T-1K", f"{tmp_path}/none"):
        assert _without_links(f"{option}={value}") == f"{option}={value}"


@pytest.fixture
def mine(tmp_path):
    """A folder of configs of the user's own."""
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "sweep").mkdir()
    text = "# @package _global_\ndefaults:\n  - override /data: digits\n  - override /sweep: {}\n"
    (tmp_path / "mine" / "experiment" / "ours.yaml").write_text(text.format("ours"))
    (tmp_path / "mine" / "sweep" / "ours.yaml").write_text(
        "search:\n  _target_: mambavision_lab.launch.sweeps.grid.GridSearch\n"
    )
    (tmp_path / "mine" / "ours_train.yaml").write_text("defaults: [train, _self_]\nseed: 77\n")
    return tmp_path / "mine"


def test_config_folder_of_the_users_own_is_searched_by_check_and_run(command, mine):
    seen = []
    assert command(seen.append, "--config-dir", str(mine), "experiment=ours") == 0
    assert seen[0].data._target_.endswith("DigitsDataModule")
    jobs = check("train", "--config-dir", str(mine), "-m", "experiment=ours", "seed=1,2")
    assert jobs == [["experiment=ours", "seed=1"], ["experiment=ours", "seed=2"]]


def test_root_config_of_the_users_own_is_checked_and_run(command, mine):
    seen = []
    assert command(seen.append, "--config-dir", str(mine), "--config-name", "ours_train") == 0
    assert seen[0].seed == 77


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--config-dir", "/no/such"], "--config-dir /no/such: no such folder"),
        (["--config-path", "/no/such"], "--config-path /no/such: no such folder"),
        (["--config-name", "trian"], "trian"),
    ],
)
def test_configs_that_are_not_there_are_refused_in_one_line(refusal, arguments, named):
    assert named in refusal(lambda: check("train", *arguments))


@pytest.mark.parametrize(
    ("file", "content", "overrides", "named"),
    [
        ("data/x.yaml", "turns: [1\n", ["data=x"], "x.yaml, line 2: "),
        ("sweep/x.yaml", "search: {n: 1}\n", ["-m", "sweep=x"], "wanted a class with probes and"),
        (
            "sweep/x.yaml",
            "search: {_target_: mambavision_lab.launch.sweeps.grd.Grid}\n",
            ["-m", "sweep=x"],
            "there is no module 'mambavision_lab.launch.sweeps.grd'",
        ),
        (
            "sweep/x.yaml",
            "search: {_target_: torch.nn.modules.linear.Identity}\n",
            ["-m", "sweep=x"],
            "wanted a class with probes and batches, such as mambavision_lab.launch.sweeps.grid",
        ),
        (
            "optimizer/x.yaml",
            "_target_: AdamW\nlr: 1\n",
            ["optimizer=x"],
            "the full path of a class",
        ),
    ],
)
def test_config_of_the_users_own_with_a_mistake_is_refused_in_one_line(
    refusal, tmp_path, file, content, overrides, named
):
    (tmp_path / "mine" / file).parent.mkdir(parents=True)
    (tmp_path / "mine" / file).write_text(content)
    message = refusal(lambda: check("train", "--config-dir", str(tmp_path / "mine"), *overrides))
    assert named in message


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("tta=1.5", "tta=1.5: no such choice; it has crops"),
        ("experiment=null", "experiment=null: is what it is without"),
        ("logger=[csv,3]", "logger=[csv,3]: no such choice; it has "),
        ("logger=[null]", "logger=[null]: no such choice; did you mean 'none'?"),
        ("hydra/job_logging=[1,2]", "hydra/job_logging=[1,2]: no such choice; it has run"),
        ("data.augment=2", "data.augment=2: wanted data.augment._target_=CLASS"),
        ("augment.policy=abc", "data.augment.policy=abc: wanted a node with a _target_ or None"),
        (
            "trainer.profiler=nan",
            "trainer.profiler=nan: wanted a node with a _target_ or str or None",
        ),
    ],
)
def test_value_of_another_kind_is_refused_in_one_line(override, wanted, refusal):
    assert refusal(lambda: check("train", override)).startswith(wanted)


def test_choice_that_is_none_is_refused_in_a_sweep_too(refusal):
    message = refusal(lambda: check("train", "-m", "seed=1,2", "tta=0"))
    assert message.startswith("tta=0: no such choice; it has crops")
