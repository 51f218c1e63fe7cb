"""Model and data-set cards: one writer, from Jinja templates, in the hub's own format.

A template (`*.md.j2`) is in the room that owns the card. What its facts lack is written
`not found`: a card is read without its data, so no number on it may come from memory.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from huggingface_hub import CardData

_NOT_FOUND = "not found"
# Licences the hub knows by name, with the page of their owner.
LICENCE_PAGES = {
    "mit": "https://opensource.org/license/mit",
    "apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "cc0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "cc-by-3.0": "https://creativecommons.org/licenses/by/3.0/",
    "cc-by-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "cc-by-sa-3.0": "https://creativecommons.org/licenses/by-sa/3.0/",
    "cc-by-sa-4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "cc-by-nc-4.0": "https://creativecommons.org/licenses/by-nc/4.0/",
    "cc-by-nc-sa-4.0": "https://creativecommons.org/licenses/by-nc-sa/4.0/",
    "gpl-3.0": "https://www.gnu.org/licenses/gpl-3.0.html",
}
# The hub's size classes: n is below the number.
_SIZES = {
    1_000: "n<1K",
    10_000: "1K<n<10K",
    100_000: "10K<n<100K",
    1_000_000: "100K<n<1M",
    10_000_000: "1M<n<10M",
}


def render_card(template: Path, data: "CardData | None" = None, **facts: Any) -> str:
    """A card: the template filled with `facts`, below `data` as the YAML header the hub reads.

    Without `data` the text has no header.
    """
    import jinja2

    class NotFound(jinja2.ChainableUndefined):
        def __str__(self) -> str:
            return _NOT_FOUND

    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=NotFound
    )
    environment.filters |= {"cell": markdown_cell, "table": markdown_table}
    text = environment.from_string(template.read_text(encoding="utf-8")).render(facts)
    return with_header(data, text) if data else text


def with_header(data: "CardData", text: str) -> str:
    """A card's text below `data` as the YAML header, read and written by the hub's own class."""
    from huggingface_hub import DatasetCard, ModelCard, ModelCardData

    kind = ModelCard if isinstance(data, ModelCardData) else DatasetCard
    return str(kind(f"---\n{data.to_yaml()}\n---\n\n{text}"))


def licence_header(name: str, details: str = "") -> dict[str, str]:
    """The header's fields for a licence: its name where the hub knows it, else `other`."""
    if name.lower() in LICENCE_PAGES:
        return {"license": name.lower()}
    slug = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
    header = {"license": "other", "license_name": slug or "not-found"}
    return header | ({"license_details": details} if details else {})


def size_category(rows: int) -> str:
    """The hub's size class of a data set."""
    return next((name for limit, name in _SIZES.items() if rows < limit), "10M<n<100M")


def licence_link(licence: Any) -> str:
    """A licence as a link to its owner's page, where that is known."""
    page = LICENCE_PAGES.get(str(licence).lower())
    return f"[{licence}]({page})" if page else markdown_cell(licence)


def markdown_cell(value: Any, digits: str = "") -> str:
    """A value as a table cell: thousands grouped, no sign that would end the cell or the line.

    `digits` is a format for numbers, such as ".2f".
    """
    if value is None or value == "" or str(value) == _NOT_FOUND:
        return _NOT_FOUND
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        plain = "," if isinstance(value, int) else ",.0f" if abs(value) >= 100 else ",.4g"
        return f"{value:{digits or plain}}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {markdown_cell(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(markdown_cell, value)) or _NOT_FOUND
    # A source's text must not become markup of the card; a link of ours may.
    text = re.sub(r"\s+", " ", str(value)).strip().replace("<", "&lt;")
    return re.sub(r"(?<!\\)\|", r"\\|", text)


def markdown_table(
    rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str], total: Sequence[str] = ()
) -> str:
    """A Markdown table of mappings; `not found` when there are no rows.

    `columns` is {key: heading}; "n:" before a heading aligns right, and a format may follow the
    heading ("n:share|.1%"). `total` names the columns that a last row adds up.
    """
    rows = list(rows or ())
    if not rows:
        return _NOT_FOUND
    heads = {key: head.partition("|") for key, head in columns.items()}
    body = [[markdown_cell(r.get(key), heads[key][2]) for key in columns] for r in rows]
    if total:
        sums = [markdown_cell(column_sum(rows, k)) if k in total else "-" for k in columns]
        body.append(["sum", *sums[1:]])
    names = [head.removeprefix("n:") for head, *_ in heads.values()]
    rule = "|".join("---:" if head.startswith("n:") else "---" for head, *_ in heads.values())
    lines = ["| " + " | ".join(line) + " |" for line in [names, *body]]
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]])


def column_sum(rows: Iterable[Mapping[str, Any]], name: str) -> int | None:
    """The sum of a column; None when there are no rows or one lacks it: a part is no total."""
    values = [row.get(name) for row in rows]
    return sum(values) if values and all(isinstance(value, int) for value in values) else None
