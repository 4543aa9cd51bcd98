"""Secrets in a config are refused before anything could keep them."""

import pytest

from mambavision_lab.config.secrets import check_secrets


@pytest.mark.parametrize(
    "node",
    [
        {"logger": {"wandb": {"api_key": "hunter2"}}},
        {"data": {"hf_token": "hunter2"}},
        {"a": [{"Password": "hunter2"}]},
        {"aws_secret_access_key": "hunter2"},
        {"data": {"root": "https://me:hunter2@example.org/data"}},
        {"data": {"shards": ["s3://key:hunter2@bucket/a.tar"]}},
    ],
)
def test_secret_is_refused_without_being_printed(node, refusal):
    message = refusal(lambda: check_secrets(node))
    assert "looks like a secret" in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    "node",
    [
        {
            "use_cls_token": True,
            "num_tokens": 4,
            "token": None,
            "tokenizer": "a",
            "class_token": "",
        },
        {"url": "https://example.org:8080/a@b", "monkey": "x", "passes": "x", "author": "me"},
    ],
)
def test_what_only_resembles_a_secret_is_let_pass(node):
    check_secrets(node)
