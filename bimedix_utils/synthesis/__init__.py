"""Notebook 02: multiple-choice questions become doctor-patient chats."""

from .chat_rules import (
    CHAT_RULES,
    FORM_RULES,
    QUESTION_RULES,
    ChatTurn,
    broken_rules,
    concludes_first,
    content_words,
    reaches_key,
    rule_objections,
    wrong_option_wins,
)
from .chats import (
    CHAT_PROMPT,
    CHAT_STAGE,
    Chat,
    ChatPlan,
    chat_id,
    chat_plan_parts,
    chat_record,
    chat_requests,
    chats_beside_paper,
    collect_chats,
    plan_chat,
    seed_questions,
    similar_chats,
)
