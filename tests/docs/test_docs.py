"""Every block of every page runs; every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import LANGUAGES, ROOT, Session, blocks, pages

_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([\w-]+))?\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_SPOKEN_OF = re.compile(r"[^\w\- ]")


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", pages(), ids=_name)
def test_blocks_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader who types what a page shows, from top to bottom, sees it work."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMNIQ_URL", raising=False)

    with Session(page) as session:
        for block in blocks(page):
            if block.runs:
                session.run(block)
        unused = session.unused_files()

    assert not unused, f"saved, but neither imported nor run: {unused}"


@pytest.mark.parametrize("page", pages(), ids=_name)
def test_blocks_say_their_language(page: Path) -> None:
    """A Python block under another name would never be run."""
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{_name(page)}:{block.line}: {block.language!r}"


@pytest.mark.parametrize("page", pages(), ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    """A page that was renamed takes its readers along."""
    for path, anchor in _LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{_name(page)}: there is no {path}"
        if anchor:
            assert anchor in _anchors(target), f"{_name(page)}: {path} has no #{anchor}"


def test_every_page_is_in_the_index() -> None:
    """A page nobody finds might as well not be there."""
    index = ROOT / "docs/index.md"
    linked = {
        (index.parent / path).resolve()
        for path, _ in _LINK.findall(index.read_text(encoding="utf-8"))
        if path
    }

    reachable = linked | {index, ROOT / "README.md"}
    missing = [_name(page) for page in pages() if page not in reachable and "adr" not in page.parts]
    assert not missing


def _anchors(page: Path) -> set[str]:
    """The anchors of headings, made the way GitHub makes them."""
    headings = _HEADING.findall(page.read_text(encoding="utf-8"))
    return {_SPOKEN_OF.sub("", text.lower()).replace(" ", "-") for text in headings}
