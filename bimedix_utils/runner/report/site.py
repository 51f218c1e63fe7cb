"""The pages of a report as {file name: text}: what each of them shows, and how they lead to each
other.
"""

import html
import json
from pathlib import Path
from typing import Any

from .. import publish
from . import glossary, prose
from .notebook import Chapter
from .page import links, notice, page, picture, table

CARDS = {
    "adapter": "Adapter (model card)",
    "merged": "Merged model (model card)",
    "mix": "Bilingual mix (data card)",
    "testset": "Test set (data card)",
}


def cards(folder: Path) -> dict[str, str]:
    """{words: text} of the cards of what this run has made."""
    return {CARDS[what]: text for what, text in publish.cards_of(folder).items()}


def pages(
    run: str,
    chapters: list[Chapter],
    manifests: dict[str, Any],
    results: dict[str, Any],
    terms: list[glossary.Term],
    written: dict[str, str],
) -> dict[str, str]:
    """Every page of the report of `run`. `manifests` and `results` are the run's run.json and
    results.json.
    """
    main = [
        ("index.html", "Start"),
        ("exercises.html", "Exercises"),
        ("glossary.html", "Glossary"),
        ("results.html", "Results"),
    ]
    main += [("figures.html", "Figures"), *([("cards.html", "Cards")] if written else [])]
    bodies = {
        "index.html": ("Start", _index(run, chapters, manifests, results)),
        "exercises.html": ("Exercises", _exercises(chapters)),
        "glossary.html": ("Glossary", glossary.body(terms)),
        "results.html": ("Results", _results(run, results)),
        "figures.html": ("Figures", _figures(chapters)),
    }
    if written:
        bodies["cards.html"] = ("Cards", _cards(written))
    made = {name: page(title, name, main, body) for name, (title, body) in bodies.items()}
    for place, chapter in enumerate(chapters):
        before, after = (
            chapters[place - 1] if place else None,
            chapters[place + 1] if place + 1 < len(chapters) else None,
        )
        name, beside = f"{chapter.stem}.html", _beside(before, after)
        made[name] = page(chapter.title, name, main, _contents(chapter), beside)
    return made


def _contents(chapter: Chapter) -> str:
    """The chapter with a folded list of its sections after its first block."""
    items = "".join(f'<li><a href="#{place}">{words}</a></li>' for place, words in chapter.sections)
    inside = (
        '<nav aria-label="On this page"><details><summary>On this'
        f" page</summary><ul>{items}</ul></details></nav>"
    )
    head, end, rest = chapter.body.partition("</h1>")
    return head + end + inside + rest


def _beside(before: Chapter | None, after: Chapter | None) -> str:
    back = (
        f'<a rel="prev" href="{before.stem}.html"><span aria-hidden="true">← </span>Previous:'
        f" {html.escape(before.title)}</a>"
        if before
        else "<span></span>"
    )
    on = (
        f'<a rel="next" href="{after.stem}.html">Next: {html.escape(after.title)}<span'
        ' aria-hidden="true"> →</span></a>'
        if after
        else "<span></span>"
    )
    return f'<nav class="beside" aria-label="Previous and next notebook">{back}{on}</nav>'


def _index(
    run: str, chapters: list[Chapter], manifests: dict[str, Any], results: dict[str, Any]
) -> str:
    items = []
    for chapter in chapters:
        facts = manifests.get(chapter.stem, {})
        took = (
            f"{facts['seconds'] / 60:.1f} minutes, {facts['peak_memory_mb']:,} MB at its peak"
            if facts
            else "not run to its end"
        )
        items.append(
            "<li><p><a"
            f' href="{chapter.stem}.html"><strong>{html.escape(chapter.title)}</strong></a><br>{html.escape(chapter.purpose)}<br><span'
            f' class="label">{took}; {len(chapter.exercises)} exercises</span></p></li>'
        )
    overview = f'<ul class="chapters">{"".join(items)}</ul>'
    left_out = [
        f"<li>{html.escape(name)}: {html.escape(text)}</li>"
        for name, stage in results.items()
        for text in stage["not_run"]
    ]
    asked = sum(len(chapter.exercises) for chapter in chapters)
    return "\n".join(
        [
            f"<h1>BiMediX kit: run <code>{html.escape(run)}</code></h1>",
            notice(),
            (
                "<p>A bilingual Arabic-English medical mixture of experts, rebuilt step by step:"
                " each notebook below was executed from top to bottom in this run, and its page"
                " shows code, results and prose as they came out. Read them in order; a figure of"
                " the paper and a figure of this run never share a column.</p>"
            ),
            (
                '<p lang="ar" dir="rtl">نموذج طبي ثنائي اللغة (العربية والإنجليزية) قائم على مزيج'
                " الخبراء، يعاد بناؤه هنا خطوة خطوة. نُفذ كل دفتر مما يلي من أوله إلى آخره في هذا"
                " التشغيل، وتعرض صفحته الشيفرة والنتائج والشرح كما نتجت. تُقرأ الدفاتر بالترتيب،"
                " ولا يجتمع رقم من الورقة البحثية ورقم من هذا التشغيل في عمود واحد.</p>"
            ),
            (
                f'<p>{asked} <a href="exercises.html">exercises</a> with folded solutions; a <a'
                ' href="glossary.html">glossary</a> in both languages; the <a'
                ' href="figures.html">figures</a>, one below the other, for a lecture; all <a'
                ' href="results.html">results</a> in one table.</p>'
            ),
            "<h2>Notebooks</h2>",
            overview,
            "<h2>What was not run</h2>",
            f"<ul>{''.join(left_out) or '<li>nothing was left out</li>'}</ul>",
        ]
    )


def _exercises(chapters: list[Chapter]) -> str:
    asked = sum(len(chapter.exercises) for chapter in chapters)
    parts = [
        f"<h1>Exercises</h1><p>{asked} exercises. Each begins with a starter that runs; its"
        " solution was executed and is folded below.</p>"
    ]
    for chapter in chapters:
        items = "".join(
            f'<li><a href="{chapter.stem}.html#exercise-{number}">Exercise {number}</a>:'
            f" {_inline(text)}</li>"
            for number, text in chapter.exercises
        )
        parts.append(f"<h2>{html.escape(chapter.title)}</h2><ul>{items or '<li>none</li>'}</ul>")
    return "\n".join(parts)


def _inline(text: str) -> str:
    return (
        prose.clean(prose.markdown(text), prose.Ids(), "")
        .strip()
        .removeprefix("<p>")
        .removesuffix("</p>")
    )


def _results(run: str, results: dict[str, Any]) -> str:
    values = []
    for name, stage in results.items():
        values += [
            [name, key, json.dumps(value, ensure_ascii=False)]
            for key, value in stage["results"].items()
        ]
        values += [
            [name, key, f"{v['hits'] / v['n']:.3f} (n={v['n']})" if v["n"] else "not run"]
            for key, v in stage["learned"].items()
        ]
    made = table(["notebook", "result", "value"], values, "Results of this run", wide=True)
    return (
        f"<h1>Results of the run <code>{html.escape(run)}</code></h1><p>From this run only; none is"
        f" the paper's.</p>{made}"
    )


def _figures(chapters: list[Chapter]) -> str:
    parts = [
        "<h1>Figures</h1>",
        links([(f"#{c.stem}", c.title) for c in chapters if c.figures], "", "Figures by notebook"),
    ]
    for chapter in chapters:
        shown = [
            picture(
                png,
                title,
                f"{prose.clean(html.escape(title), prose.Ids(), '')} (notebook {chapter.stem[:2]})",
            )
            for _, png, title in chapter.figures
        ]
        if shown:
            parts.append(
                f'<h2 id="{chapter.stem}">{html.escape(chapter.title)}</h2>{"".join(shown)}'
            )
    return "\n".join(parts)


def _cards(written: dict[str, str]) -> str:
    ids, parts = (
        prose.Ids(),
        [
            "<h1>Model and data cards</h1>",
            (
                "<p>From this run's own numbers. <code>make publish</code> shows what would be"
                " uploaded with them.</p>"
            ),
        ],
    )
    for words, text in written.items():
        head, body = text[4:].split("\n---\n", 1) if text.startswith("---\n") else ("", text)
        own = prose.clean(prose.markdown(_deeper(body)), ids, words, top=3)
        front = (
            "<details><summary>Header for the"
            f" hub</summary><pre>{html.escape(head)}</pre></details>"
            if head
            else ""
        )
        parts.append(
            f'<section aria-label="{html.escape(words)}"><h2'
            f' id="{ids.new(words)}">{html.escape(words)}</h2>{front}{own}</section>'
        )
    return "\n".join(parts)


def _deeper(text: str) -> str:
    """Two levels down: a card's own title becomes a third-level heading of the page."""
    lines, inside = [], False
    for line in text.split("\n"):
        inside ^= line.startswith("```")
        lines.append(f"##{line}" if line.startswith("#") and not inside else line)
    return "\n".join(lines)
