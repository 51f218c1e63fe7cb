"""The ground floor: records, text, runs, parameters, provenance, files, statistics, display.

Every room stands on it; a notebook imports it as `core`.
"""

from .charts import (
    COLOURS,
    bar_chart,
    interval_chart,
    length_chart,
    live_curve,
    new_axes,
    planned_chart,
    training_curve,
)
from .display import (
    is_interactive,
    show_counts,
    show_difference,
    show_notice,
    show_side_by_side,
    show_table,
)
from .errors import InputError, ParameterError
from .files import iter_json_lines, write_json, write_json_lines
from .freshness import fingerprint
from .language import language_data, language_of, load_language
from .parameters import parameters_from_namespace, preset_values
from .provenance import (
    NOTEBOOKS,
    ROOT,
    answers_file,
    hash_path,
    portable_path,
    resolve_path,
    runs_folder,
    trained_base,
)
from .records import Record, iter_jsonl, iter_parquet, read_jsonl, write_jsonl, write_parquet
from .runs import set_seed, start_run
from .shingles import near_duplicates
from .statistics import over_seeds, paired_bootstrap, wilson
from .studies import read_manifest, read_study
from .templates import checked_messages
from .text import digest
