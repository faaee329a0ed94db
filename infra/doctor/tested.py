"""Versions that the tests passed with: those of `constraints.txt`, which a wheel lacks, of what sllm needs."""

TESTED = {
    "torch": "2.13.0",
    "ray": "2.60.0",
    "deepspeed": "0.19.8",
    "transformers": "5.23.0",
    "datasets": "5.2.0",
    "pyarrow": "25.0.1",
    "spacy": "3.8.18",
    "mlflow": "3.17.2",
    "tokenizers": "0.23.3",
    "safetensors": "0.8.0",
    "numpy": "2.4.6",
    "regex": "2026.11.15",
    "fsspec": "2026.9.0",
    "zstandard": "0.25.0",
    "pydantic": "2.14.3",
    "pyyaml": "6.0.3",
    "typer": "0.29.2",
    "rich": "15.0.0",
    "matplotlib": "3.11.2",
    "jinja2": "3.1.6",
}
