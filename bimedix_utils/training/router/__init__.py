"""The router's view of a mixture of experts: which experts read which language and which task,
before and after tuning.

One pass over tokenised rows counts, for every row and layer, how many tokens went to each expert.
Everything else is arithmetic on these counts: loads with intervals, divergence between two groups
with a permutation test, the shift that adapters bring.

* A group is named by words: `ar` are the Arabic rows, `mcqa` the multiple-choice rows, `ar mcqa`
  both at once, `all` every row.
* The unit of resampling is the **row**: the tokens of a row depend on each other, and intervals
  over tokens would be far too narrow.
* Layers and experts count from 0, as in the names of the parameters.

What such a view cannot tell: a router reads tokens, and the two languages share few of them. Other
experts for Arabic than for English may mean no more than other words; compare within one task, and
pair translations where there are some.
"""

from .counts import RoutingChange, RoutingCounts, count_routing, count_routing_change, find_tags
from .distances import (
    DistanceEstimate,
    GroupDistance,
    RoutingShift,
    group_distances,
    jensen_shannon,
    routing_shifts,
    total_variation,
)
from .loads import ExpertLoad, dead_experts, expert_loads, group_rows, load_entropy
from .plots import plot_distances, plot_loads, plot_shifts
