"""What MLflow loads from the folder of a trained model: a table of prompts (or sentences) in, a table of texts out.

`MLmodel` names this module. It is imported from the installed sllm; no code in the folder is run.
"""

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pipeline.config import GenerateConfig
from pipeline.errors import ConfigError
from pipeline.generation.saved_text_model import TextModel, load_text_model

if TYPE_CHECKING:
    import pandas as pd


class PyfuncModel:
    """A text model under MLflow's `predict`."""

    def __init__(self, model: TextModel) -> None:
        self._model = model

    def predict(self, model_input: "pd.DataFrame", params: dict[str, Any] | None = None) -> "pd.DataFrame":
        """A row with the column `text` for each row of the first column of `model_input`; `params` are options of the
        section `generate`. Raises `ConfigError` for a value that is not allowed there."""
        import pandas as pd

        try:
            options = GenerateConfig.model_validate(params or {})
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigError(f"params: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        given = model_input.iloc[:, 0].tolist()
        return pd.DataFrame({"text": self._model.texts(given, options)})


def _load_pyfunc(path: str) -> PyfuncModel:
    """MLflow calls this with the folder of the model, a copy on this machine."""
    return PyfuncModel(load_text_model(path))
