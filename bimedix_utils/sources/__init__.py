"""Notebook 01: published files, in their owners' own formats, as records.

* `readers`: which file is which source; `layouts`, `exams`, `documents`: the reader of each layout;
* `catalogue`: owners and licences; `hub`: downloads; `composition`: the paper's table of its data;
* `benchmarks`: what is scored; `census`: counts of rows; `knowledge`: textbook facts as questions.
"""

from ..core.errors import InputError
from .benchmarks import (
    Benchmark,
    Task,
    group_tasks,
    load_benchmarks,
    nine_benchmarks,
    write_benchmarks,
)
from .catalogue import (
    KIT_LICENCE,
    catalogue_overview,
    load_catalogue,
    may_publish_record,
    read_revisions,
)
from .census import Census, example_pairs
from .composition import (
    PaperPart,
    paper_composition,
    planned_and_present,
    planned_parts,
    stated_rows,
)
from .documents import read_liveqa, read_medquad
from .exams import read_bimedix, read_mmlu, read_pubmedqa
from .hub import read_lock
from .knowledge import (
    FACT_GROUPS,
    KNOWLEDGE_LANGUAGES,
    choose_relations,
    fact_mcqa,
    held_out_questions,
    knowledge_mix,
    load_relations,
    pretraining_and_questions,
    pretraining_texts,
)
from .layouts import SourceEntry, layout
from .readers import (
    SourceFile,
    find_files,
    iter_file,
    known_sources,
    read_file,
    recognise,
    unknown_files,
)
