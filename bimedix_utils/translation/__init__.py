"""Notebook 03: English to Arabic in rounds of translation, checks, scores and refinement."""

from .calibration import (
    DAMAGE_SEVERITIES,
    SCORE_EDGES,
    CalibrationItem,
    HumanRating,
    ScoredItem,
    correlation_with_people,
    missed_damage,
    read_calibration_items,
    read_human_ratings,
    reliability_bands,
    score_items,
    scorer_agreement,
    scores_by_severity,
    threshold_table,
)
from .checks import (
    CHECKS,
    Flag,
    TextPair,
    adequacy,
    check_rows,
    numbers_of,
    option_order,
    repeated_targets,
    run_checks,
)
from .rounds import (
    TRANSLATION_PROMPTS,
    ErrorSpan,
    RowState,
    Score,
    Version,
    first_requests,
    recorded_id,
    rows_of_further_language,
    rows_to_translate,
    run_rounds,
    score_request,
    stage_model,
    why_not_accepted,
)
from .summaries import (
    check_study_rows,
    first_and_best_scores,
    overruled_scores,
    row_endings,
    score_band_rows,
    scores_by_text,
    state_rows,
    version_rows,
)
from .test_items import select_test_items, untranslatable
from .texts import (
    answer_model,
    flat_texts,
    named_texts,
    role_flags,
    text_fields,
    text_hash,
    text_pair,
    translated_record,
)
