"""The plan of a training without a GPU: the real configuration on the `meta` device, then memory,
steps, hours and cost.

python -m bimedix_utils.training.plan --mode paper       exit code 1 when its own GPU is too small
"""

from .cost import EpochRows, epoch_rows
from .memory import ForwardPass, PeakMemory, peak_memory
from .planner import DevicePlan, TrainingPlan, plan_device, plan_training, remedies
from .report import memory_figure, preset_table
from .setup import Gpu, TrainingSetup, find_gpu, read_gpus
from .shape import ParameterCount, Shape, count_on_meta, find_config
