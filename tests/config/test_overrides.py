import pytest

from mambavision_lab.config.compose import Composer, package_source
from mambavision_lab.config.overrides import key_of, quoted, unquoted


@pytest.mark.parametrize(
    "text", ["a b", "it's", "back\\slash", "end\\", "\\'both\\\\'", "a,b=[1]", "größe #1 & co"]
)
def test_quoted_values_are_taken_literally(text):
    composer = Composer(package_source("train"), "train")
    assert composer.compose([f"name={quoted(text)}"]).name == text
    assert unquoted(quoted(text)) == text


@pytest.mark.parametrize("text", ["", "'", "logs/bob's", "'a", "a'"])
def test_values_without_quotes_around_them_stay(text):
    assert unquoted(text) == text


def test_keys_are_those_of_additions_and_deletions_too():
    assert [key_of(o) for o in ("a.b=c=d", "+a.b=1", "++a.b=1", "~a.b")] == ["a.b"] * 4
