"""python -m bimedix_utils.chat                       the model that notebook 06 tuned in smoke
mode, as a page in the browser
python -m bimedix_utils.chat --model folder          another one: a folder, a hub id, an adapter's
folder (--base)
python -m bimedix_utils.chat --url http://host/v1    a model behind an OpenAI-compatible endpoint
"""

import argparse
import sys
from contextlib import suppress

from ..core.errors import command
from ..core.text import nfc
from .endpoint import EndpointModel
from .opening import PRECISIONS, Opening, open_model
from .page import serve


@command
def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="bimedix_utils.chat",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument(
        "--mode", default="smoke", help="without --model and --url: whose tuned model"
    )
    parser.add_argument("--run", default="", help="that run's name")
    parser.add_argument("--model", default="", help="a folder, a hub id, or an adapter's folder")
    parser.add_argument(
        "--base", default="", help="what the adapter stands on, where its own file does not say"
    )
    parser.add_argument("--precision", default="4bit", choices=PRECISIONS)
    parser.add_argument(
        "--url",
        default="",
        help="base URL of an OpenAI-compatible endpoint; its key: TEACHER_API_KEY",
    )
    parser.add_argument(
        "--url-model",
        default="",
        help="the endpoint's name of the model; empty takes the first it lists",
    )
    parser.add_argument(
        "--allow-remote",
        action="store_true",
        help="the endpoint may be on another machine; never send patient data",
    )
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--port", type=int, default=7860, help="0 takes a free one")
    parser.add_argument(
        "--transcript",
        default="",
        help="keep everything said in this JSON Lines file; nothing is kept without it",
    )
    given = parser.parse_args()

    def load():
        if not given.url:
            from ..training.models import setup_torch

            setup_torch(given.threads)
        return open_model(
            given.model, given.url, url_model=given.url_model, base=given.base, mode=given.mode, run=given.run,
            precision=given.precision, max_new_tokens=given.max_new_tokens, allow_remote=given.allow_remote,
        )  # fmt: skip

    with suppress(KeyboardInterrupt):
        # An endpoint is there at once, or its address is wrong at once; a local model loads behind
        # the page.
        model = load() if given.url else Opening(load)
        title = (
            given.url_model or "the endpoint's model"
            if isinstance(model, EndpointModel)
            else nfc(given.model) or f"{given.mode} model"
        )
        serve(model, title, given.port, given.transcript)


if __name__ == "__main__":
    sys.exit(main())
