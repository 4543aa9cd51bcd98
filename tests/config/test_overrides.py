import shlex
import subprocess

import pytest

from mambavision_lab.config.compose import Composer, hydra_config, package_source
from mambavision_lab.config.overrides import given_overrides, key_of, quoted, shell_line, unquoted


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


@pytest.mark.parametrize("word", ["a=b", "a='b c'", "a='$b'", 'a="b"', "a='b!'", "", "a=[1,2]"])
def test_shell_takes_the_words_of_a_line_as_they_are(word):
    line = shell_line(["echo", word])
    assert shlex.split(line) == ["echo", word]
    assert (
        subprocess.run(["bash", "-c", f"printf %s {line[5:]}"], capture_output=True).stdout
        == word.encode()
    )


def test_shell_line_puts_single_quotes_within_double_ones():
    assert shell_line(["x.py", "a='b c'"]) == """x.py "a='b c'\""""


def test_given_overrides_keep_their_references():
    given = ["optimizer.lr=${.weight_decay}", "seed=3"]
    cfg = Composer(package_source("train"), "train").compose(given)
    assert given_overrides() == []
    with hydra_config(cfg):
        assert given_overrides() == given
