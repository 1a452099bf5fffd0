"""One table, three ways to show it: markdown, HTML and the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from rich.table import Table as RichTable

from d2v.errors import ConfigError


@dataclass(frozen=True)
class Table:
    """Cells as people read them. The first column names the row and stands left, the others stand right unless they
    hold texts.

    Attributes:
        title: stands over it.
        columns: their names.
        rows: a cell for each column.
        texts: names of further columns that stand left.

    Raises:
        ConfigError: a row does not have one cell a column.

    Example:
        >>> print(Table("Probes", ("encoder", "kNN %"), (("pretrained", "71.2"),)).to_markdown())
        | encoder | kNN % |
        |:--|--:|
        | pretrained | 71.2 |
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        uneven = [row for row in self.rows if len(row) != len(self.columns)]
        if uneven:
            raise ConfigError(
                f"table {self.title!r} has {len(self.columns)} columns, but the row {uneven[0][:1]} has "
                f"{len(uneven[0])} cells: give one cell a column"
            )

    def to_markdown(self) -> str:
        """GitHub-flavoured markdown, without the title."""
        head = _markdown_row(self.columns)
        rule = "|" + "|".join(":--" if left else "--:" for left in self._are_left) + "|"
        return "\n".join([head, rule, *map(_markdown_row, self.rows)])

    def to_html(self) -> str:
        """An HTML table with the title as its caption; cells are escaped."""
        marks = [' class="text"' if name in self.texts else "" for name in self.columns]
        head = "".join(f"<th{mark}>{escape(cell)}</th>" for mark, cell in zip(marks, self.columns, strict=True))
        rows = (zip(marks, row, strict=True) for row in self.rows)
        body = "\n".join(f"<tr>{''.join(f'<td{mark}>{escape(cell)}</td>' for mark, cell in row)}</tr>" for row in rows)
        return (
            f'<div class="scroll"><table>\n<caption>{escape(self.title)}</caption>\n<thead><tr>{head}</tr></thead>\n'
            f"<tbody>\n{body}\n</tbody>\n</table></div>"
        )

    def to_rich(self) -> RichTable:
        """For a rich console."""
        table = RichTable(title=self.title, title_justify="left", title_style="bold")
        for left, column in zip(self._are_left, self.columns, strict=True):
            table.add_column(column, justify="left" if left else "right", no_wrap=True)
        for row in self.rows:
            table.add_row(*row)
        return table

    @property
    def _are_left(self) -> list[bool]:
        return [not number or name in self.texts for number, name in enumerate(self.columns)]


def _markdown_row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
