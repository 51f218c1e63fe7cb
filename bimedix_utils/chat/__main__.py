"""The chat as a page in the browser (`make chat`).

python -m bimedix_utils.chat                       the tuned model of notebook 06, smoke mode
python -m bimedix_utils.chat --model folder        a folder, a hub id, an adapter's folder (--base)
python -m bimedix_utils.chat --url http://host/v1  a model behind an OpenAI-compatible endpoint
"""

import argparse
import sys
from contextlib import suppress

from ..core.errors import command
from ..core.parameters import PRECISIONS
from ..core.text import nfc
from .loading import LoadingModel, open_model
from .page import serve_chat

_TEXTS = {
    "--mode": ("smoke", "without --model and --url: the mode whose tuned model answers"),
    "--run": ("", "name of that mode's run"),
    "--model": ("", "a folder, a hub id, or an adapter's folder"),
    "--base": ("", "the adapter's base, where its own file does not name it"),
    "--url": ("", "base URL of an OpenAI-compatible endpoint; its key: TEACHER_API_KEY"),
    "--url-model": ("", "the endpoint's name of the model; empty takes the first it lists"),
    "--transcript": ("", "add every message to this JSON Lines file; without it none is kept"),
}
_NUMBERS = {"--max-new-tokens": 256, "--threads": 2, "--port": 7860}  # port 0 takes a free one


@command
def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        "bimedix_utils.chat", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    for flag, (default, meaning) in _TEXTS.items():
        parser.add_argument(flag, default=default, help=meaning)
    for flag, default in _NUMBERS.items():
        parser.add_argument(flag, type=int, default=default, help=f"default {default}")
    parser.add_argument("--precision", default="nf4", choices=PRECISIONS)
    parser.add_argument(
        "--allow-remote",
        action="store_true",
        help="the endpoint may be on another machine; never send patient data",
    )
    given = parser.parse_args()

    def load():
        if not given.url:
            from ..training.models import setup_torch

            setup_torch(given.threads)
        return open_model(
            given.model,
            given.url,
            url_model=given.url_model,
            base=given.base,
            tuned=(given.mode, given.run),
            precision=given.precision,
            max_new_tokens=given.max_new_tokens,
            allow_remote=given.allow_remote,
        )

    with suppress(KeyboardInterrupt):
        # An endpoint needs no loading; a local model loads behind the page.
        model = load() if given.url else LoadingModel(load)
        title = nfc(given.model) or f"{given.mode} model"
        if given.url:
            title = given.url_model or "the endpoint's model"
        serve_chat(model, title, given.port, given.transcript)


if __name__ == "__main__":
    sys.exit(main())
