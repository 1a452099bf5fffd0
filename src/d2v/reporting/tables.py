"""One table, three ways to show it: markdown, HTML and the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from rich.table import Table as RichTable

from d2v.errors import ConfigError


@dataclass(frozen=True)
class Table:
    """Cells as people read them. The first column names the row and stands left, the others stand right.

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
        rule = "|" + "|".join([":--", *["--:"] * (len(self.columns) - 1)]) + "|"
        return "\n".join([head, rule, *map(_markdown_row, self.rows)])

    def to_html(self) -> str:
        """An HTML table with the title as its caption; cells are escaped."""
        head = "".join(f"<th>{escape(cell)}</th>" for cell in self.columns)
        body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows)
        return (
            f"<table>\n<caption>{escape(self.title)}</caption>\n<thead><tr>{head}</tr></thead>\n"
            f"<tbody>\n{body}\n</tbody>\n</table>"
        )

    def to_rich(self) -> RichTable:
        """For a rich console."""
        table = RichTable(title=self.title, title_justify="left", title_style="bold")
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left", no_wrap=True)
        for row in self.rows:
            table.add_row(*row)
        return table


def _markdown_row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
