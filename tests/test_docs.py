"""The Python examples of the pages in docs/ run, each page from its top in one namespace and folder."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
# export.md works on files of the reader's: see tests/exporters/test_page.py.
PAGES = sorted(set(DOCS.rglob("*.md")) - {DOCS / "export.md", DOCS / "card.md"})
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_examples_of_a_page_run(page, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    examples = [*EXAMPLE.finditer(text)]
    assert len(examples) == text.count("```python")
    namespace = {}
    for example in examples:
        # Errors name the page and the line there.
        lines = "\n" * (text.count("\n", 0, example.start()) + 1)
        exec(compile(lines + example[1], str(page), "exec"), namespace)
