"""Overlap of free answers with references: chrF++ (Popovic 2017, by sacrebleu) and ROUGE-L (Lin
2004, by rouge-score).

Overlap of words is no medical correctness: a negation lost costs little here. Both libraries name
their version in `signature`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from ...core.errors import InputError
from ...core.text import match_key

DRAWS = 1000
COLUMNS = ["language", "n", "empty", "chrF++", "95 % (bootstrap)", "ROUGE-L", "95 % (bootstrap)"]


class Words:
    """rouge-score's tokenizer interface, for any script: the words of `text.match_key`.

    The library's own tokenizer keeps a-z and 0-9 only: to it an Arabic text has no words, and every
    score is 0.
    """

    def tokenize(self, text: str) -> list[str]:
        """Words with folded case, digits and hamza seats, without vowel marks and punctuation."""
        return match_key(text).split()


@dataclass(frozen=True)
class Row:
    """One answer against its reference, both scores 0 to 100."""

    id: str
    lang: str
    chrf: float
    rouge_l: float
    empty: bool


@dataclass(frozen=True)
class Corpus:
    """A whole set: corpus chrF++ and mean ROUGE-L (F1), each (value, low, high) with a 95 %
    bootstrap interval over answers, 0 to 100.
    """

    n: int
    empty: int
    chrf: tuple[float, float, float]
    rouge_l: tuple[float, float, float]


def rows(
    ids: Sequence[str], langs: Sequence[str], answers: Sequence[str], references: Sequence[str]
) -> list[Row]:
    """Each answer's scores, in order. An empty answer scores 0 and stays. Raises `InputError` for
    an empty reference.
    """
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import CHRF

    chrf, rouge = CHRF(word_order=2), RougeScorer(["rougeL"], tokenizer=Words())
    found = []
    for row_id, lang, text, reference in zip(ids, langs, answers, references, strict=True):
        if not match_key(reference):
            raise InputError(
                f"{row_id}: the reference is empty; overlap with nothing means nothing"
            )
        empty = not text.strip()
        scores = (
            (0.0, 0.0)
            if empty
            else (
                chrf.sentence_score(text, [reference]).score,
                100 * rouge.score(reference, text)["rougeL"].fmeasure,
            )
        )
        found.append(Row(row_id, lang, *scores, empty))
    return found


def corpus(
    scored: Sequence[Row], answers: Sequence[str], references: Sequence[str], seed: int
) -> Corpus:
    """The set's scores. `scored` are its rows, `answers` and `references` in the same order; `seed`
    is the bootstrap's.

    chrF++ is computed from summed counts, so it is no mean of rows. Both intervals are percentiles
    over answers drawn with replacement. Raises `InputError` without rows.
    """
    import numpy

    if not scored:
        raise InputError("no answers: there is nothing to compare with references")
    drawn = numpy.random.default_rng(seed).integers(0, len(scored), (DRAWS, len(scored)))
    # sacrebleu's own interval stops with a TypeError when a draw holds empty answers only; its
    # counts are drawn here instead.
    metric = _chrf()
    counts = numpy.array(
        metric._extract_corpus_statistics(list(answers), [list(references)]), dtype=float
    )
    chrf = [metric._compute_score_from_stats(part).score for part in counts[drawn].sum(axis=1)]
    rouge = numpy.array([row.rouge_l for row in scored])
    whole = metric.corpus_score(list(answers), [list(references)]).score
    return Corpus(
        len(scored),
        sum(row.empty for row in scored),
        _interval(whole, chrf),
        _interval(rouge.mean(), rouge[drawn].mean(axis=1)),
    )


def _interval(value: float, draws: Sequence[float]) -> tuple[float, float, float]:
    import numpy

    low, high = numpy.percentile(draws, [2.5, 97.5])
    return float(value), float(low), float(high)


def signature() -> dict[str, str]:
    """What was computed, for whoever wants the same numbers."""
    metric = _chrf()
    metric.corpus_score(
        ["a"], [["a"]]
    )  # the signature knows the number of references only afterwards
    rouge = (
        "rougeL F1|mean of rows|tokenizer:match_key"
        f" words|stemmer:no|version:{version('rouge-score')}"
    )
    bootstrap = f"percentile|bs:{DRAWS}|numpy default_rng, the run's seed"
    return {"chrF++": metric.get_signature().format(), "ROUGE-L": rouge, "interval": bootstrap}


def _chrf():
    from sacrebleu.metrics import CHRF

    return CHRF(word_order=2)


def table(
    ids: Sequence[str],
    langs: Sequence[str],
    answers: Sequence[str],
    references: Sequence[str],
    seed: int,
) -> list[tuple]:
    """One table row for each language, see `COLUMNS`."""
    scored, lines = rows(ids, langs, answers, references), []
    for lang in dict.fromkeys(langs):
        places = [place for place, row in enumerate(scored) if row.lang == lang]
        found = corpus(
            [scored[i] for i in places],
            [answers[i] for i in places],
            [references[i] for i in places],
            seed,
        )
        lines.append((lang, found.n, found.empty, *_shown(found.chrf), *_shown(found.rouge_l)))
    return lines


def _shown(value: tuple[float, float, float]) -> tuple[str, str]:
    return f"{value[0]:.1f}", f"[{value[1]:.1f}, {value[2]:.1f}]"
