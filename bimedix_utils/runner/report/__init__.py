"""Static HTML of a run that opens without a network: start page, executed notebooks, exercises,
glossary, results, figures, cards.

No script, nothing loaded from elsewhere; made for keyboard, screen reader, phone, light and dark,
and both scripts. `templates/` holds the pages, `pages` fills them.
"""

from .pages import build_report
