"""Notebook parameters: what a notebook declares, what a preset gives, and a refusal of everything
else.

papermill ignores unknown parameters and checks no types, so a misspelt `LORA_RNAK` would train for
a day with the default rank. The declaration is the notebook's own cell tagged `parameters`: one
literal a line, the legal values in its comment:

    MODE: str = "smoke"  # one of: smoke | laptop | gpu | paper
    SHARE: float = 0.2  # 0..1: part of the high scores a reviewer sees
    ROWS: int = 40  # 1..: rows read from each file
    RAW_DIR: str = ""  # any text: folder of published files, empty for the kit's own sample
"""

import ast
import difflib
import io
import json
import re
import tokenize
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .errors import ParameterError
from .provenance import NOTEBOOKS

MODES = ("smoke", "laptop", "gpu", "paper")
PRECISIONS = ("nf4", "float32", "bfloat16")  # of a model's weights; one vocabulary everywhere
_INJECTED = "# Parameters"  # the comment papermill writes at the head of the cell it injects


@dataclass(frozen=True)
class Parameter:
    """One declared parameter: its default, whose type is the wanted type, and the comment that
    limits it.
    """

    name: str
    default: Any
    comment: str

    @cached_property
    def choices(self) -> tuple[str, ...]:
        """The legal values, or () when any value of the right type is legal."""
        match = re.match(r"one of:([^:]+)", self.comment)
        return tuple(part.strip() for part in match.group(1).split("|")) if match else ()

    def describe(self) -> str:
        """The legal values in words."""
        return f"{type(self.default).__name__}, {self.comment or 'any value'}"

    def check(self, value: Any) -> Any:
        """The value, an int widened to float where a float is declared. Raises `ParameterError`
        otherwise.
        """
        wanted = type(self.default)
        if wanted is float and type(value) is int:
            value = float(value)
        if type(value) is not wanted:
            raise ParameterError(
                f"{self.name} = {value!r} is {type(value).__name__}; wanted {self.describe()}"
            )
        if self.choices and str(value) not in self.choices:
            raise ParameterError(f"{self.name} = {value!r}; wanted {self.describe()}")
        number = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"
        span = re.match(rf"({number})\.\.({number})?", self.comment)
        bounds = (float(span[1]), float(span[2] or "inf")) if span else None
        if bounds and not bounds[0] <= value <= bounds[1]:
            raise ParameterError(
                f"{self.name} = {value!r} is out of range; wanted {self.describe()}"
            )
        return value


def declared(notebook: Path) -> dict[str, Parameter]:
    """The parameters a notebook declares, in order. Raises `ParameterError` when its parameters
    cell breaks the rules.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise ParameterError(
            f"{notebook.name}: one cell tagged 'parameters' is needed, found {len(tagged)}"
        )
    source = "".join(tagged[0]["source"])
    comments = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    result = {}
    for node in ast.parse(source).body:
        if not (isinstance(node, ast.AnnAssign) and node.value and node.target.id.isupper()):
            raise ParameterError(
                f"{notebook.name}: the parameters cell holds something else than NAME: type ="
                f" literal (line {node.lineno})"
            )
        name, annotated = node.target.id, ast.unparse(node.annotation)
        try:
            default = ast.literal_eval(node.value)
        except ValueError:
            raise ParameterError(f"{notebook.name}: {name} is not a literal") from None
        if annotated != type(default).__name__:
            raise ParameterError(f"{notebook.name}: {name} is declared {annotated}, not its type")
        result[name] = Parameter(name, default, comments.get(node.lineno, ""))
    return result


def unknown_parameter(name: str, legal: dict[str, Parameter], where: str) -> ParameterError:
    """The error for a name nobody declared: the nearest legal name first, then all of them."""
    near = difflib.get_close_matches(name, legal, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return ParameterError(f"{where}: unknown parameter {name}; {hint}Legal: {', '.join(legal)}")


def parameters_from_namespace(notebook: Path, namespace: dict[str, Any]) -> dict[str, Any]:
    """The checked values of a running notebook's parameters.

    `namespace` is the notebook's `globals()`. Names injected by papermill are read from the
    kernel's own record of executed cells (`In`), because an unknown one leaves no other trace.
    Raises `ParameterError` for unknown, missing or mistyped ones.
    """
    legal = declared(notebook)
    for source in namespace.get("In", []):
        if source.startswith(_INJECTED):
            for node in ast.parse(source).body:
                if isinstance(node, ast.Assign) and node.targets[0].id not in legal:
                    raise unknown_parameter(node.targets[0].id, legal, notebook.name)
    missing = [name for name in legal if name not in namespace]
    if missing:
        raise ParameterError(
            f"{notebook.name}: missing {', '.join(missing)}; run the cell tagged 'parameters' first"
        )
    return {name: parameter.check(namespace[name]) for name, parameter in legal.items()}


def notebook_paths(notebooks: Path = NOTEBOOKS) -> list[Path]:
    """The notebooks in order."""
    return sorted(notebooks.glob("[0-9][0-9]_*.ipynb"))


def preset_values(notebooks: Path, mode: str, notebook: Path) -> dict[str, Any]:
    """The preset's value for every parameter the notebook declares: its own section first, then the
    section `all`.

    Raises `ParameterError` for an unknown mode, a section that names no notebook, and a name
    missing or unknown to the notebook.
    """
    import yaml

    if mode not in MODES:
        raise ParameterError(f"MODE = {mode!r}; wanted one of {' | '.join(MODES)}")
    path = notebooks / "presets" / f"{mode}.yaml"
    preset = yaml.safe_load(path.read_text(encoding="utf-8"))
    stems = {item.stem for item in notebook_paths(notebooks)}
    strangers = set(preset) - stems - {"all"}
    if strangers:
        raise ParameterError(
            f"{path.name}: sections {', '.join(sorted(strangers))} name no notebook"
        )
    legal, own, shared = declared(notebook), preset.get(notebook.stem) or {}, preset["all"]
    for name in own:
        if name not in legal:
            raise unknown_parameter(name, legal, f"{path.name}, {notebook.stem}")
    values = {**{name: shared[name] for name in legal if name in shared}, **own}
    missing = [name for name in legal if name not in values]
    if missing:
        raise ParameterError(f"{path.name}: {notebook.stem} needs {', '.join(missing)}")
    return {name: legal[name].check(values[name]) for name in legal}
