"""A report from one list of parts: markdown with links to its plots, and one HTML file with all inside."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from d2v.reporting.page_parts import STYLE as PARTS_STYLE
from d2v.reporting.page_parts import PagePart, Warnings
from d2v.reporting.tables import Table

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.4rem; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { padding: .3rem .9rem; border-bottom: 1px solid #8885; text-align: right; }
th:first-child, td:first-child, .text { text-align: left; }
td.text { overflow-wrap: anywhere; min-width: 9rem; white-space: pre-line; }
.scroll { overflow-x: auto; }
img { max-width: 100%; height: auto; background: #fff; }
figure { margin: 1rem 0; } figcaption { opacity: .75; font-size: .9rem; }
"""

MADE_OF, HEAD_BYTES = '<meta name="made-of" content="', 1024


@dataclass(frozen=True)
class Heading:
    """Starts a section."""

    text: str


@dataclass(frozen=True)
class Plot:
    """A PNG file in the report's folder with the sentence that stands under it."""

    path: Path
    caption: str


Part = Heading | Plot | Table | str


def write_report(folder: Path, title: str, parts: Sequence[Part | PagePart]) -> tuple[Path, Path]:
    """Write `report.md` and the self-contained `report.html` into `folder`, and return both paths.

    Args:
        folder: where the plots are; made if it is absent.
        title: the first heading.
        parts: from top to bottom; a plain string is a paragraph. Of parts of pages, markdown has warnings alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    markdown, html = folder / "report.md", folder / "report.html"
    plain = [part for part in parts if not isinstance(part, PagePart) or isinstance(part, Warnings)]
    markdown.write_text(to_markdown(title, plain), encoding="utf-8")
    write_page(html, title, parts)
    return markdown, html


def write_page(path: Path, title: str, parts: Sequence[Part | PagePart], made_of: str = "") -> Path:
    """Write one self-contained HTML file, and return its path.

    Args:
        path: the file.
        title: the first heading.
        parts: from top to bottom; a plain string is a paragraph.
        made_of: what the page was made of, such as a hash; `made_of` reads it again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    style = STYLE + PARTS_STYLE if any(isinstance(part, PagePart) for part in parts) else STYLE
    page = _page(title, "\n".join(map(_part_html, parts)), style, made_of)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(page.encode("utf-8", "backslashreplace"))
    temporary.replace(path)
    return path


def made_of(path: Path) -> str:
    """What the page at `path` was made of; empty if it is not there or does not say."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return ""
    _, found, rest = head.partition(MADE_OF.encode())
    return rest.partition(b'"')[0].decode("ascii", "replace") if found else ""


def to_markdown(title: str, parts: Sequence[Part | Warnings]) -> str:
    """The parts under a title as markdown; plots are links."""
    return "\n\n".join([f"# {title}", *map(_part_markdown, parts)]) + "\n"


def _part_markdown(part: Part | Warnings) -> str:
    if isinstance(part, Warnings):
        return "\n".join(f"- {sentence}" for sentence in part.sentences)
    if isinstance(part, Heading):
        return f"## {part.text}"
    if isinstance(part, Plot):
        return f"![{part.caption}]({part.path.name})\n\n{part.caption}"
    if isinstance(part, Table):
        return f"**{part.title}**\n\n{part.to_markdown()}"
    return part


def _part_html(part: Part | PagePart) -> str:
    if isinstance(part, Heading):
        return f"<h2>{escape(part.text)}</h2>"
    if isinstance(part, Plot):
        data = base64.b64encode(part.path.read_bytes()).decode("ascii")
        caption = escape(part.caption)
        image = f'<img src="data:image/png;base64,{data}" alt="{caption}">'
        return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"
    if isinstance(part, Table | PagePart):
        return part.to_html()
    return f"<p>{escape(part)}</p>"


def _page(title: str, body: str, style: str, made_of: str) -> str:
    about = f'{MADE_OF}{escape(made_of)}">\n' if made_of else ""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n{about}'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{style}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )
