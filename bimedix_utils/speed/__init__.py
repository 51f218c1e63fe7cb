"""Speed of a sparse model against dense ones, measured as ratios from interleaved rounds and
explained by a roofline.

`shapes` counts parameters, `build` makes models of a shape, `measure` times them in turns, `probes`
times this machine's matrix products, `roofline` predicts from the probes, `trial` joins these,
`explain` applies the roofline to the paper's claim, `languages` turns tokens into sentences,
`figures` draws, and `vllm` drives that engine's own benchmark where it is installed.
"""

from . import explain, figures, languages, vllm
from .build import PRECISIONS, build, four_bit_path, parameters, pool
from .measure import Ratio, decode_seconds, interleaved, prefill_seconds, ratio, routed
from .probes import Machine, Sweeps, cache_bytes
from .roofline import Work, distinct_experts, predict, rests, uniform, work
from .shapes import Shape, equal_active, equal_total
from .study import Studied, conditions, studied
from .trial import DENSE, Plan, Prediction, Trial, batches, precisions, run, trio
