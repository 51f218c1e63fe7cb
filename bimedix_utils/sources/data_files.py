"""The YAML files of this room, read into models that forbid unknown keys."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ..core.errors import InputError
from ..core.files import read_utf8
from ..core.provenance import ROOT
from ..core.records import explain

CATALOGUE_FOLDER = ROOT / "data" / "catalogue"


class StrictModel(BaseModel):
    """Immutable; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


_Model = TypeVar("_Model", bound=BaseModel)


def read_yaml(path: Path, model: type[_Model]) -> _Model:
    """A YAML file as `model`. Raises `InputError` naming file, entry and field."""
    import yaml

    try:
        return model(**yaml.safe_load(read_utf8(path)))
    except yaml.YAMLError as error:
        raise InputError(f"{path.name}: not valid YAML ({' '.join(str(error).split())})") from None
    except ValidationError as error:
        raise InputError(f"{path.name}: {explain(error)}") from None
    except TypeError:
        keys = " and ".join(model.model_fields)
        raise InputError(f"{path.name}: a mapping with {keys} was expected") from None
