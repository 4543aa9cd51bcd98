"""Check a built site: links and anchors lead somewhere, and nothing is fetched from another host."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


class _Page(HTMLParser):
    """The links of a page, what it fetches, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors.update(given[name] for name in ("id", "name") if name in given)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in _FETCHED and given.get("rel") != "canonical" and _FETCHED[tag] in given:
            self.fetched.append(given[_FETCHED[tag]])


def check(site: Path) -> list[str]:
    """Name what is wrong in the pages of a site; external links are checked for their form alone."""
    pages = {
        path.resolve(): _Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")
    }
    problems = []
    for path, page in pages.items():
        where = path.relative_to(site.resolve())
        for url in page.fetched:
            if urlsplit(url).netloc:
                problems.append(f"{where}: fetches {url}")
        for url in [*page.links, *page.fetched]:
            if fault := _fault(url, path, pages):
                problems.append(f"{where}: {url}: {fault}")
    return problems


def _fault(url: str, path: Path, pages: dict[Path, _Page]) -> str | None:
    parts = urlsplit(url)
    if parts.scheme in ("mailto", "data"):
        return None
    if parts.scheme or parts.netloc:
        good = parts.scheme in ("http", "https") and "." in parts.netloc and " " not in url
        return None if good else "is no address"
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        return "no such file"
    anchors = pages[target].anchors if target in pages else {parts.fragment}
    if parts.fragment and unquote(parts.fragment) not in anchors | {"__top"}:
        return "no such anchor"
    return None
