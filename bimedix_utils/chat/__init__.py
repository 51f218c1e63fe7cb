"""09: talk to a model in any language that has a file; emergencies are answered first.

One conversation (`conversation`) has three views: a notebook cell (`box`), a page in the browser
(`page`, `make chat`) and plain text. The model runs here (`local`) or behind an OpenAI-compatible
address (`endpoint`); `loading` chooses.
"""

from .box import chat_box
from .conversation import LONGEST_MESSAGE, Conversation, turns_that_fit
from .loading import LoadingModel, open_model
from .local import StreamingModel
from .red_flags import measure_red_flags, red_flag, red_flag_kinds
from .render import conversation_text
