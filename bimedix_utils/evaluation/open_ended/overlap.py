"""Overlap of free answers with references: chrF++ (Popovic 2017, by sacrebleu) and ROUGE-L (Lin
2004, by rouge-score).

Overlap of words is no medical correctness: a lost negation costs little here. Both libraries name
their version in `overlap_signature`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from ...core.errors import InputError
from ...core.text import match_key
from ..score_tables import Table, make_table

_DRAWS = 1000


class _MatchKeyTokenizer:
    """rouge-score's tokenizer interface for any script. The library's own tokenizer keeps a-z and
    0-9 only: to it an Arabic text has no words, and every score is 0.
    """

    def tokenize(self, text: str) -> list[str]:
        return match_key(text).split()


@dataclass(frozen=True)
class CorpusOverlap:
    """A set's corpus chrF++ and mean ROUGE-L (F1), each (value, low, high) with a 95 % bootstrap
    interval over answers, 0 to 100.
    """

    n: int
    empty: int
    chrf: tuple[float, float, float]
    rouge_l: tuple[float, float, float]


def _chrf():
    from sacrebleu.metrics import CHRF

    return CHRF(word_order=2)


def rouge_l(answers: Sequence[str], references: Sequence[str]) -> list[float]:
    """ROUGE-L (F1) of each answer, 0 to 100. Raises `InputError` for an empty reference."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], tokenizer=_MatchKeyTokenizer())
    found = []
    for number, (text, reference) in enumerate(zip(answers, references, strict=True)):
        if not match_key(reference):
            raise InputError(f"row {number}: the reference is empty; overlap with it means nothing")
        found.append(100 * scorer.score(reference, text)["rougeL"].fmeasure)
    return found


def corpus_overlap(answers: Sequence[str], references: Sequence[str], seed: int) -> CorpusOverlap:
    """The set's scores; an empty answer scores 0 and stays. `seed` is the bootstrap's.

    chrF++ is computed from summed counts, so it is no mean of rows. Both intervals are percentiles
    over answers drawn with replacement. Raises `InputError` without rows.
    """
    import numpy

    if not answers:
        raise InputError("no answers: there is nothing to compare with references")
    n, generator = len(answers), numpy.random.default_rng(seed)
    drawn = generator.integers(0, n, (_DRAWS, n))
    rouge = numpy.array(rouge_l(answers, references))
    # sacrebleu's own interval stops with a TypeError when a draw holds empty answers only; its
    # counts are drawn here instead.
    metric, streams = _chrf(), (list(answers), [list(references)])
    counts = numpy.array(metric._extract_corpus_statistics(*streams), dtype=float)
    chrf = [metric._compute_score_from_stats(part).score for part in counts[drawn].sum(axis=1)]
    value = metric.corpus_score(*streams).score
    empty = sum(not text.strip() for text in answers)
    return CorpusOverlap(
        n, empty, _interval(value, chrf), _interval(rouge.mean(), rouge[drawn].mean(axis=1))
    )


def _interval(value: float, draws: Sequence[float]) -> tuple[float, float, float]:
    import numpy

    low, high = numpy.percentile(draws, [2.5, 97.5])
    return float(value), float(low), float(high)


def overlap_signature() -> dict[str, str]:
    """What was computed, for whoever wants the same numbers."""
    metric = _chrf()
    metric.corpus_score(["a"], [["a"]])  # only then does the signature know the references
    return {
        "chrF++": metric.get_signature().format(),
        "ROUGE-L": "rougeL F1|mean of rows|tokenizer:match_key words|stemmer:no|version:"
        + version("rouge-score"),
        "interval": f"percentile|bs:{_DRAWS}|numpy default_rng, the run's seed",
    }


def overlap_table(
    langs: Sequence[str], answers: Sequence[str], references: Sequence[str], seed: int
) -> Table:
    """One row for each language."""
    lines = []
    for lang in dict.fromkeys(langs):
        own = [i for i, found in enumerate(langs) if found == lang]
        texts, wanted = [answers[i] for i in own], [references[i] for i in own]
        found = corpus_overlap(texts, wanted, seed)
        shown = []
        for value, low, high in (found.chrf, found.rouge_l):
            shown += [f"{value:.1f}", f"[{low:.1f}, {high:.1f}]"]
        lines.append((lang, found.n, found.empty, *shown))
    interval = "95 % (bootstrap)"
    return make_table(lines, f"language, n, empty, chrF++, {interval}, ROUGE-L, {interval}")
