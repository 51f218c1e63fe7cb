"""Paper scale without a GPU: the real configuration on the `meta` device, then memory, steps, hours
and cost from its numbers.

python -m bimedix_utils.training.plan --mode paper        the preset's plan; exit code 1 when its
own GPU cannot hold it
"""

from .activations import Batch
from .fit import Verdict, largest_micro, remedies, verdict
from .hardware import Gpu, gpu, gpus
from .memory import Peak, peak
from .setup import Setup, setup_of
from .shape import Proof, Shape, find_config, prove, shape_of
from .show import figure
from .whole import Plan, make
from .work import Rows, cost, flops_per_token, hours, rows_of, steps
