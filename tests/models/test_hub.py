import logging
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub import hf_api
from safetensors.torch import save_file
from toy_weights import assert_same, make_toy, with_prefix

from mambavision_lab.models import hub as hub_module


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub whose every repository holds the files of a folder."""

    def model_info(api, repository, timeout):
        return SimpleNamespace(
            siblings=[SimpleNamespace(rfilename=p.name) for p in tmp_path.iterdir()]
        )

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda repository, name: str(tmp_path / name)
    )
    hub_module._warn_of_licence.cache_clear()
    return tmp_path


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """A hub that cannot be reached; waiting before another try is an error."""
    nobody_listens = "http://127.0.0.1:9"
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hf_api.HfApi(endpoint=nobody_listens))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("tried again"))
    return tmp_path / "cache"


@pytest.mark.parametrize("name", ["model.safetensors", "mambavision_toy_1k.pth.tar"])
def test_hub_id_stands_for_its_weights_and_the_licence_is_logged_once(name, net, hub, caplog):
    (hub / "README.md").touch()
    state = with_prefix(net.state_dict(), "model.")
    (save_file if name.endswith("safetensors") else torch.save)(state, hub / name)
    for _ in range(2):
        assert_same(make_toy(pretrained="nvidia/MambaVision-Toy-1K"), net)
    assert caplog.text.count("CC-BY-NC-SA 4.0") == 1
    make_toy(pretrained="somebody/else")
    assert caplog.text.count("CC-BY-NC-SA 4.0") == 1


def test_hub_without_weights_is_refused(hub, refusal):
    message = refusal(lambda: make_toy(pretrained="nvidia/nothing"))
    assert "pretrained=nvidia/nothing: no weights there" in message


def test_hub_without_a_network_is_refused_in_one_line_at_once(no_network, refusal):
    message = refusal(lambda: make_toy(pretrained="nvidia/MambaVision-T-1K"))
    assert "no such file or folder here, and the Hugging Face hub did not give it (Conn" in message
    assert "check the name and the network, or give a file" in message
    assert logging.getLogger("huggingface_hub").level != logging.ERROR


def test_weights_in_the_hubs_cache_need_no_network(no_network, net):
    repository = no_network / "models--somebody--toy"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    torch.save(net.state_dict(), snapshot / "toy.pth.tar")
    assert_same(make_toy(pretrained="somebody/toy"), net)
