"""Parts of HTML pages that markdown has no words for: tiles of numbers, warnings, bars, histograms, galleries.

Each is drawn with HTML and CSS alone, so that a page needs no script, no picture file and no network. All texts are
escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

STYLE = """
:root { --c0: #3d7dca; --c1: #e08a2e; --c2: #55a868; --c3: #8d6cab; --c4: #999; --line: #8884; --soft: #8881; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: .7rem; margin: 1.2rem 0; }
.tiles div { background: var(--soft); border-radius: .5rem; padding: .6rem .8rem; overflow-wrap: anywhere; }
.tiles b { display: block; font-size: 1.3rem; font-variant-numeric: tabular-nums; }
.tiles span { font-size: .85rem; opacity: .75; }
.look { border-left: .25rem solid var(--c1); background: var(--soft); padding: .6rem 1rem .6rem 2rem; margin: 1rem 0; }
.look li { margin: .2rem 0; overflow-wrap: anywhere; }
.bars { width: 100%; } .bars th, .bars td { padding: .15rem .9rem .15rem 0; white-space: nowrap; }
.bars td:last-child { width: 50%; min-width: 5rem; padding-right: 0; }
.bars td:first-child { min-width: 5rem; white-space: normal; overflow-wrap: anywhere; }
.bars .rest td { opacity: .75; font-style: italic; }
.bar { display: flex; height: .8rem; gap: 1px; } .bar i { min-width: 1px; border-radius: 1px; }
.s0 { background: var(--c0); } .s1 { background: var(--c1); } .s2 { background: var(--c2); }
.s3 { background: var(--c3); } .s4 { background: var(--c4); }
.key { display: inline-block; width: .7rem; height: .7rem; border-radius: 2px; margin-right: .3rem; }
.side { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1rem 2rem; }
.side table { margin-top: 0; } .side > * { min-width: 0; }
.histogram svg { display: block; width: 100%; height: 7.5rem; border-bottom: 1px solid var(--line); }
.histogram svg rect { fill: var(--c0); } .histogram svg rect:hover { fill: var(--c1); }
.histogram .axis { display: flex; justify-content: space-between; font-size: .8rem; opacity: .75; }
.histogram h3 { margin: 0 0 .3rem; font-size: 1rem; } .histogram { margin: 0; }
.gallery h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; overflow-wrap: anywhere; }
.gallery h3 small { font-weight: 400; opacity: .75; }
.gallery .items { display: grid; gap: .6rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 6.5rem), 1fr)); }
.gallery .wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 14rem), 1fr)); }
.gallery figure { margin: 0; min-width: 0; }
.gallery img { width: 100%; height: 6rem; object-fit: contain; background: var(--soft); border-radius: .3rem; }
.gallery img.small { image-rendering: pixelated; }
.gallery audio { width: 100%; height: 2.2rem; }
.gallery blockquote { margin: 0; padding: .5rem .8rem; background: var(--soft); border-radius: .3rem; font-size: .9rem;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.gallery figcaption { font-size: .75rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
"""
COLOURS = 5


@dataclass(frozen=True)
class Tiles:
    """Numbers at a glance: (what, how much)."""

    numbers: tuple[tuple[str, str], ...]

    def to_html(self) -> str:
        """A grid of them."""
        cells = (f"<div><b>{escape(number)}</b><span>{escape(name)}</span></div>" for name, number in self.numbers)
        return f'<div class="tiles">{"".join(cells)}</div>'


@dataclass(frozen=True)
class Warnings:
    """Sentences to read before anything else."""

    sentences: tuple[str, ...]

    def to_html(self) -> str:
        """A list that stands out."""
        return f'<ul class="look">{"".join(f"<li>{escape(sentence)}</li>" for sentence in self.sentences)}</ul>'


@dataclass(frozen=True)
class Bars:
    """Counts as bars, one row a name, side by side in one bar where there are several series.

    Attributes:
        title: stands over it.
        series: names of the columns, such as splits; the name of a single one is not shown.
        rows: (name, a count for each series); counts None: a line that stands for rows left out.
    """

    title: str
    series: tuple[str, ...]
    rows: tuple[tuple[str, tuple[int, ...] | None], ...]

    def to_html(self) -> str:
        """A table whose last column is the bar."""
        longest = max((sum(counts) for _, counts in self.rows if counts), default=0) or 1
        keys = (f'<th><i class="key s{_colour(n)}"></i>{escape(name)}</th>' for n, name in enumerate(self.series))
        head = f"<thead><tr><th></th>{''.join(keys)}<th></th></tr></thead>\n" if len(self.series) > 1 else ""
        body = "\n".join(self._row(name, counts, longest) for name, counts in self.rows)
        return (
            f'<div class="scroll"><table class="bars">\n<caption>{escape(self.title)}</caption>\n'
            f"{head}<tbody>\n{body}\n</tbody>\n</table></div>"
        )

    def _row(self, name: str, counts: tuple[int, ...] | None, longest: int) -> str:
        if counts is None:
            return f'<tr class="rest"><td colspan="{len(self.series) + 2}">{escape(name)}</td></tr>'
        numbers = "".join(f"<td>{count:,}</td>" for count in counts)
        pieces = "".join(
            f'<i class="s{_colour(n)}" style="width:{100 * count / longest:.2f}%"></i>'
            for n, count in enumerate(counts)
            if count
        )
        return f'<tr><td>{escape(name)}</td>{numbers}<td><div class="bar">{pieces}</div></td></tr>'


@dataclass(frozen=True)
class Histogram:
    """Counts over a range.

    Attributes:
        title: what is counted, with its unit.
        counts: of each bin.
        labels: of the left end, the middle and the right end of the axis.
        ranges: of each bin, such as "1.5 to 2.0 s".
        caption: the sentence under it.
    """

    title: str
    counts: tuple[int, ...]
    labels: tuple[str, ...]
    ranges: tuple[str, ...]
    caption: str

    def to_html(self) -> str:
        """Bars from the axis upwards; each says its range and count under the mouse."""
        highest, bins = max(self.counts, default=0) or 1, len(self.counts)
        bars = "".join(
            f'<rect x="{n + 0.04:.2f}" y="{100 - height:.2f}" width="0.92" height="{height:.2f}">'
            f"<title>{escape(name)}: {count:,}</title></rect>"
            for n, (count, name) in enumerate(zip(self.counts, self.ranges, strict=True))
            if (height := max(100 * count / highest, 1.0 if count else 0.0))
        )
        axis = "".join(f"<span>{escape(label)}</span>" for label in self.labels)
        return (
            f'<figure class="histogram"><h3>{escape(self.title)}</h3>'
            f'<svg viewBox="0 0 {bins} 100" preserveAspectRatio="none" role="img">{bars}</svg>'
            f'<div class="axis">{axis}</div><figcaption>{escape(self.caption)}</figcaption></figure>'
        )


@dataclass(frozen=True)
class SideBySide:
    """Histograms and bars, as many in a row as fit."""

    parts: tuple[Histogram | Bars, ...]

    def to_html(self) -> str:
        """A grid of them."""
        return f'<div class="side">{"".join(part.to_html() for part in self.parts)}</div>'


@dataclass(frozen=True)
class Example:
    """One item for people.

    Attributes:
        name: of the item, seen under the mouse.
        caption: a shorter name; empty for the same.
        text: of it, or what was said; may be empty.
        media_type: `image/...` or `audio/...` of `data`; empty if there is only the text.
        data: the file.
        is_small: whether an image has so few pixels that they are shown as squares.
    """

    name: str
    caption: str = ""
    text: str = ""
    media_type: str = ""
    data: bytes = b""
    is_small: bool = False

    def to_html(self) -> str:
        """A picture, a player or a text, with its name."""
        source = f"data:{escape(self.media_type)};base64,{base64.b64encode(self.data).decode('ascii')}"
        name, text, caption = escape(self.name), escape(self.text), escape(self.caption or self.name)
        shown = f"<blockquote>{text}</blockquote>" if text else ""
        if self.media_type.startswith("image/"):
            small = ' class="small"' if self.is_small else ""
            shown = f'<img{small} src="{source}" alt="{name}">{shown}'
        elif self.media_type.startswith("audio/"):
            shown = f'<audio controls preload="none" src="{source}"></audio>{shown}'
        return f'<figure title="{name}">{shown}<figcaption>{caption}</figcaption></figure>'


@dataclass(frozen=True)
class Gallery:
    """Examples under headings: (heading, remark beside it, examples)."""

    groups: tuple[tuple[str, str, Sequence[Example]], ...]

    def to_html(self) -> str:
        """A grid of examples under each heading."""
        return f'<div class="gallery">{"".join(self._group(*group) for group in self.groups)}</div>'

    def _group(self, heading: str, remark: str, examples: Sequence[Example]) -> str:
        are_images = all(example.media_type.startswith("image/") for example in examples)
        items = "\n".join(example.to_html() for example in examples)
        return (
            f"<h3>{escape(heading)} <small>{escape(remark)}</small></h3>\n"
            f'<div class="items{"" if are_images else " wide"}">{items}</div>\n'
        )


PagePart = Tiles | Warnings | Bars | SideBySide | Gallery


def _colour(number: int) -> int:
    return min(number, COLOURS - 1)
