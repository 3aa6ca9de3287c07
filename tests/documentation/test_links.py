"""Links of all Markdown files lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from documentation import markdown

DOCUMENTS = markdown.documents()


def is_external(target: str) -> bool:
    return bool(re.match(r"[a-z][a-z0-9+.-]*:", target))


@pytest.mark.parametrize(
    "path", DOCUMENTS, ids=[str(path.relative_to(markdown.ROOT)) for path in DOCUMENTS]
)
def test_links_resolve(path: Path) -> None:
    dead = []
    for target in markdown.links(path):
        if is_external(target):
            parts = urlsplit(target)
            right = parts.scheme == "https" and re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc)
        else:
            name, _, anchor = target.partition("#")
            file = path.parent / name if name else path
            inside = file.resolve().is_relative_to(markdown.ROOT)
            right = inside and file.exists() and (not anchor or anchor in markdown.anchors(file))
        if not right:
            dead.append(target)
    assert not dead


def test_there_are_documents() -> None:
    assert len(DOCUMENTS) >= 15
    assert sum(len(markdown.links(path)) for path in DOCUMENTS) >= 50


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    to_see = [markdown.ROOT / "README.md"]
    while to_see:
        path = to_see.pop().resolve()
        if path in seen or path.suffix != ".md":
            continue
        seen.add(path)
        to_see += [
            path.parent / target.partition("#")[0]
            for target in markdown.links(path)
            if not is_external(target) and target.partition("#")[0]
        ]
    assert not set(markdown.PAGES.glob("*.md")) - seen


def test_anchors_are_those_of_github(tmp_path: Path) -> None:
    (tmp_path / "some.md").write_text(
        "# `pair_style dp`: what's new?\n\n## A/B and _c_\n```bash\n# no heading\n```\n"
        "## [Link](there.md) – dash\n## Twice\n## Twice\n"
    )
    assert markdown.anchors(tmp_path / "some.md") == {
        "pair_style-dp-whats-new", "ab-and-_c_", "link--dash", "twice", "twice-1",
    }  # fmt: skip
