"""Notebook 07: score models on benchmarks and open questions, compare them with each other and with
the paper.

A plan pairs tasks with prompt formats; `evaluate_models` runs it; the tables read its samples.
"""

from .ablation_results import ablation_intervals, ablation_table, read_arms
from .compare import (
    average_table,
    chance_table,
    compare_with_paper,
    count_correct,
    label_table,
    paired_table,
    score_intervals,
    translation_table,
)
from .damage import damage_table, find_all_damage, stop_on_damage
from .evaluate import evaluate_models
from .evaluated import EvaluatedEndpoint, EvaluatedLocal, evaluated_model
from .harness import write_harness_tasks
from .open_ended.judge import (
    agreement_table,
    both_sides,
    grade_answers,
    judge_pairs,
    judge_position_bias,
    pair_table,
    rubric_table,
    unusable_statuses,
)
from .open_ended.judge_calibration import (
    DAMAGE_DIMENSIONS,
    agreement_with_people,
    known_pairs,
    read_human_verdicts,
)
from .open_ended.open_set import open_set, open_test_questions
from .open_ended.overlap import overlap_signature
from .open_ended.presuppositions import compare_levels, stance_table
from .open_ended.safety import read_labelled_answers, read_requests, safety_detectors, safety_table
from .paper import findings_table, means_table, misprinted_means, paper_models, read_paper_tables
from .position_bias import permutation_table, permuted_tasks
from .prompt_format import PromptFormat, prompt_formats
from .scoring import Sample
from .task_plan import evaluation_plan, held_out_tasks, pipeline_tasks, task_table, write_task_cards
