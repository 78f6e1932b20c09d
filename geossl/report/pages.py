"""Self-contained HTML pages: headings, paragraphs, tables and matplotlib figures in one file without outside links.

In go results as data (:class:`Section` with text, :class:`Table`, figures); out comes one file that can be mailed.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

from geossl import __version__
from geossl.artefacts import atomic_file

_DPI = 110
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
:root { --ink: #1d2730; --soft: #5b6873; --line: #d7dde2; --back: #ffffff; --band: #f4f6f8; --accent: #1f6f54; }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--back); margin: 0 auto;
       max-width: 62rem; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--line); }
p { margin: .5rem 0; white-space: pre-line; max-width: 48rem; }
figure { margin: 1rem 0; }
figure img { max-width: 100%; height: auto; background: #fff; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .8rem 0 1.2rem; font-size: .92rem; }
caption { text-align: left; color: var(--soft); padding-bottom: .3rem; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; color: var(--soft); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
footer { margin-top: 3rem; color: var(--soft); font-size: .85rem; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% for section in sections %}
<section>
{% if section.title %}<h2>{{ section.title }}</h2>{% endif %}
{% for paragraph in section.paragraphs %}<p>{{ paragraph }}</p>
{% endfor %}
{% for table in section.tables %}
<div class="wide"><table>
{% if table.caption %}<caption>{{ table.caption }}</caption>{% endif %}
<thead><tr>
{% for cell in table.head %}<th{% if cell.number %} class="number"{% endif %}>{{ cell.text }}</th>
{% endfor %}</tr></thead>
<tbody>
{% for row in table.rows %}<tr>
{% for cell in row %}<td{% if cell.number %} class="number"{% endif %}>{{ cell.text }}</td>
{% endfor %}</tr>
{% endfor %}
</tbody>
</table></div>
{% endfor %}
{% for figure in section.figures %}
<figure><img alt="{{ figure.alt }}" src="data:image/png;base64,{{ figure.png }}"></figure>
{% endfor %}
</section>
{% endfor %}
<footer>geossl {{ version }}</footer>
</body>
</html>
"""


@dataclass(frozen=True)
class Table:
    """Rows under column names; numbers are right-aligned, floats shown with four significant digits."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs (separated by empty lines), then tables, then figures."""

    title: str
    text: str = ""
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class _Cell:
    text: str
    number: bool


def table(records: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None, caption: str = "") -> Table:
    """A table from records (dicts); ``columns`` chooses and orders, by default all keys in order of appearance."""
    listed = list(records)
    names = list(columns) if columns is not None else list(dict.fromkeys(key for record in listed for key in record))
    return Table(names, [[record.get(name, "") for name in names] for record in listed], caption)


def facts(pairs: Mapping[str, Any], caption: str = "") -> Table:
    """A two-column table of named facts."""
    return Table(("", ""), [[name, value] for name, value in pairs.items()], caption)


def page(path: Path, title: str, sections: Sequence[Section]) -> Path:
    """Write a self-contained HTML page (pictures inline, no scripts, nothing loaded from elsewhere), atomically."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    html = environment.from_string(_PAGE).render(
        title=title, version=__version__, sections=[_prepared(section) for section in sections]
    )
    with atomic_file(Path(path)) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return Path(path)


def to_png(figure: Figure, dpi: int = _DPI) -> bytes:
    """A figure as PNG bytes (without the date and software version, so equal figures give equal bytes)."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, bbox_inches="tight", metadata={"Software": None})
    return stream.getvalue()


def format_value(value: Any) -> str:
    """How a value is shown in tables: four significant digits, thousands apart, lists joined, a dash for none."""
    if value is None or (isinstance(value, float) and value != value):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {format_value(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(format_value(item) for item in value)
    return str(value)


def _prepared(section: Section) -> dict[str, Any]:
    return {
        "title": section.title,
        "paragraphs": [part.strip() for part in section.text.split("\n\n") if part.strip()],
        "tables": [_cells(one) for one in section.tables],
        "figures": [
            {"alt": figure.get_label() or section.title, "png": base64.b64encode(to_png(figure)).decode()}
            for figure in section.figures
        ],
    }


def _cells(one: Table) -> dict[str, Any]:
    rows = [[_plain_number(value) for value in row] for row in one.rows]
    numeric = [
        any(_is_number(row[i]) for row in rows) and all(_is_number(row[i]) or row[i] in ("", None) for row in rows)
        for i in range(len(one.columns))
    ]
    return {
        "caption": one.caption,
        "head": [_Cell(name, numeric[i]) for i, name in enumerate(one.columns)],
        "rows": [[_Cell(format_value(value), numeric[i]) for i, value in enumerate(row)] for row in rows],
    }


def _plain_number(value: Any) -> Any:
    """numpy and torch scalars as Python numbers."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
