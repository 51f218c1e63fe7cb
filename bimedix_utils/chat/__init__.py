"""Talk to a model in either language, with the framing medicine needs: research only, and
emergencies first.

One conversation (`conversation`) behind three surfaces: a notebook cell (`box`), a page in the
browser (`page`, `make chat`) and plain text. The model behind it runs here (`local`) or answers at
an OpenAI-compatible address (`endpoint`); `opening` decides which.
"""

from .box import box
from .conversation import LONGEST_MESSAGE, Conversation
from .local import LocalModel
from .opening import Opening, open_model
from .red_flags import EMERGENCY, kinds, language, red_flag
from .render import plain
