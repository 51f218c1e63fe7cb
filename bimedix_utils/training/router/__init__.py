"""The router of a mixture of experts: which experts read which language and which task, before and
after tuning.

One pass over tokenised rows counts, for every row and layer, how many tokens went to each expert.
Everything else is computed from these counts: loads with intervals, the divergence of two groups
with a permutation test, the change that adapters bring.

* Words name a group: `ar` are the Arabic rows, `mcqa` the multiple-choice rows, `ar mcqa` the rows
  that are both, `all` every row.
* The unit of resampling is the **row**: the tokens of a row depend on each other, and intervals
  over tokens would be far too narrow.
* Layers and experts count from 0, as in the names of the parameters.

A router reads tokens, and the two languages share few of them: other experts for Arabic than for
English may only mean other tokens. Compare within one task, and pair translations where possible.
"""

from .counts import (
    RoutingChange,
    RoutingCounts,
    count_routing,
    count_routing_change,
    draw_rows,
    find_tags,
)
from .distances import (
    DistanceEstimate,
    GroupDistance,
    RoutingShift,
    group_distances,
    jensen_shannon,
    routing_shifts,
    total_variation,
)
from .loads import ExpertLoad, dead_experts, expert_loads, group_rows, plot_loads
