"""Static HTML of a run: the executed notebooks and one summary page, to be opened without a network."""

import html
import json
from pathlib import Path

from .display import NOTICE, span
from .errors import InputError
from .provenance import hash_path, shown
from .text import digest

_STYLE = """
body{font-family:sans-serif;max-width:60em;margin:2em auto;padding:0 1em;line-height:1.5;color:#222;background:#fff}
table{border-collapse:collapse;margin:1em 0}td,th{border:1px solid #999;padding:.2em .6em;text-align:left}
img{max-width:100%;background:#fff}.note{border:2px solid #b00;padding:.3em 1em}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}a{color:#8bf}}
"""


def build(folder: Path) -> Path:
    """Render a run's notebooks and its summary into `<folder>/report`; returns the first page. Fresh pages are left alone.

    Raises `InputError` when nothing has been run yet.
    """
    executed = sorted((folder / "notebooks").glob("*.ipynb"))
    if not executed or not (folder / "results.json").exists():
        raise InputError(f"nothing to report in {shown(folder)}: run  make run  first")
    target = folder / "report"
    index, stamp = target / "index.html", target / ".made-from"
    source = digest([hash_path(path) for path in (*executed, folder / "results.json", folder / "run.json", Path(__file__))])
    if index.exists() and stamp.exists() and stamp.read_text() == source:
        return index
    target.mkdir(parents=True, exist_ok=True)
    for path in executed:
        (target / f"{path.stem}.html").write_text(_page(path), encoding="utf-8")
    index.write_text(_summary(folder, executed), encoding="utf-8")
    stamp.write_text(source)
    return index


def _page(path: Path) -> str:
    """One notebook as HTML with nothing loaded from elsewhere."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(mathjax_url="", require_js_url="", jquery_url="", mermaid_js_url="", jupyter_widgets_base_url="")
    body, _ = exporter.from_filename(str(path))
    return body


def figures(path: Path) -> list[str]:
    """The notebook's pictures as base64 PNG, in order."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return ["".join(output["data"]["image/png"]) for output in outputs if "image/png" in output.get("data", {})]


def _table(head: list[str], rows: list[list[str]]) -> str:
    cells = "".join("<tr>" + "".join(span(cell, "td") for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{''.join(f'<th scope=col>{html.escape(h)}</th>' for h in head)}</tr></thead><tbody>{cells}</tbody></table>"


def _summary(folder: Path, executed: list[Path]) -> str:
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    runs = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    parts = [f"<h1>BiMediX kit: run <code>{html.escape(folder.name)}</code></h1>"]
    parts.append(f'<div class="note" role="note">{"".join(span(text, "p") for text in NOTICE.values())}</div>')
    rows = [[name, f"{run['seconds']:.0f}", f"{run['peak_memory_mb']:,}"] for name, run in runs.items()]
    links = "".join(f'<li><a href="{path.stem}.html">{path.stem}</a></li>' for path in executed)
    parts.append(f"<h2>Notebooks</h2><ul>{links}</ul>{_table(['notebook', 'seconds', 'peak MB'], rows)}")
    values = []
    for name, stage in results.items():
        values += [[name, key, json.dumps(value, ensure_ascii=False)] for key, value in stage["results"].items()]
        values += [[name, key, f"{v['hits'] / v['n']:.3f} (n={v['n']})" if v["n"] else "not run"] for key, v in stage["learned"].items()]
    parts.append(f"<h2>Results of this run</h2>{_table(['notebook', 'result', 'value'], values)}")
    left_out = [f"<li>{html.escape(name)}: {html.escape(text)}</li>" for name, stage in results.items() for text in stage["not_run"]]
    parts.append(f"<h2>What was not run</h2><ul>{''.join(left_out) or '<li>nothing was left out</li>'}</ul>")
    parts.append("<h2>Figures</h2>")
    for path in executed:
        for number, picture in enumerate(figures(path), start=1):
            caption = f"{path.stem}, figure {number}"
            parts.append(f'<figure><img alt="{caption}" src="data:image/png;base64,{picture}"><figcaption>{caption}</figcaption></figure>')
    body = "\n".join(parts)
    head = f'<meta charset="utf-8"><title>{html.escape(folder.name)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>'
