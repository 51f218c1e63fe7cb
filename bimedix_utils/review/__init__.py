"""Notebook 04, review by people: a queue of translations, reviewers' decisions, a lossless merge.

All rows the rounds could not accept, plus a stratified, seeded sample of those they did, go to a
reviewer, as in the paper; a share goes to two. A decision names the hash of the text it was made
on: when the text changes, the old decision is void.
"""

from .agreement import agreement_rows, double_reviewed, reviewer_agreement, time_spent
from .decisions import (
    DECISION_COLUMNS,
    REVIEW_VERDICTS,
    ReviewDecision,
    append_decision,
    is_simulated,
    latest_decisions,
    make_decision,
    read_decisions,
    remove_cut_row,
    write_decisions,
)
from .form import ReviewForm
from .label_studio import LABEL_CONFIG, from_label_studio, to_label_studio
from .merging import (
    POLICIES,
    is_edited,
    merge_decisions,
    merged_records,
    outcome_counts,
    scores_against_gold,
    settle_decisions,
)
from .parts import (
    corrected_values,
    row_findings,
    same_shape,
    side_by_side,
    source_values,
    word_differences,
)
from .queue import is_sampled, review_queue, stratum
from .sheets import SHEET_COLUMNS, read_sheet, split_by_cell_limit, write_sheet
from .testsets import (
    admit_test_items,
    admitted_records,
    passes_threshold,
    read_test_set,
    test_item_queue,
    write_test_set,
)
