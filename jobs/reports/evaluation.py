"""The figures of an evaluation, as a file and as a table."""

import json
import sys

from rich.table import Table

from infra.storage import Folder
from jobs.runner.printable_console import PrintableConsole
from pipeline.errors import ConfigError
from pipeline.evaluation.evaluate import Figures

REPORT_FILE = "evaluation.json"


def write_report(figures: Figures, output: str) -> None:
    """Write the figures to the output folder of the job."""
    Folder(output).write(REPORT_FILE, f"{json.dumps(figures, indent=2)}\n".encode())


def read_report(output: str) -> Figures:
    """The figures that an evaluation wrote. Raises `ConfigError` where there are none."""
    content = Folder(output).read(REPORT_FILE)
    if content is None:
        raise ConfigError(f"there is no {REPORT_FILE} in {output}: evaluate again with --force")
    figures: Figures = json.loads(content)
    return figures


def print_report(figures: Figures) -> None:
    """A table of likelihoods, and a line on reconstruction."""
    table = Table(title="Dev documents", title_justify="left")
    table.add_column("model")
    note = " (*)" if lossy_documents(figures) else ""
    for column in (f"bits per byte{note}", "perplexity per token", "parameters"):
        table.add_column(column, justify="right")
    for name, of_model in figures.items():
        if "bits_per_byte" in of_model:
            cells = [f"{of_model['bits_per_byte']:.4f}", f"{of_model['perplexity_per_token']:.2f}"]
            parameters = f"{int(of_model['parameters']):,}" if "parameters" in of_model else ""
            table.add_row(name, *cells, parameters)
    console = PrintableConsole(width=None if sys.stdout.isatty() else 100)
    console.print(table)
    for line in notes_of(figures):
        console.print(line, highlight=False, markup=False)
    if vae := figures.get("vae"):
        console.print(
            f"SentenceVAE: {vae['token_accuracy']:.2%} of tokens, {vae['exact_sentences']:.2%} of "
            f"{int(vae['sentences']):,} sentences reconstructed exactly; perplexity {vae['perplexity']:.2f}"
        )


def notes_of(figures: Figures) -> list[str]:
    """Notes on the figures: meaningless bits per byte, and different segmenters."""
    notes = []
    if lossy := lossy_documents(figures):
        notes.append(
            f"(*) Bits per byte mean nothing here: of {lossy:,} documents of the dev split the token ids do not give "
            "the text back; perplexities are of what is left."
        )
    for name, of_model in figures.items():
        if "segmenter" in of_model:
            notes.append(
                f"{name} was trained on sentences of {of_model['segmenter']}, and evaluated on those of "
                f"{of_model['shards_segmenter']}."
            )
    return notes


def lossy_documents(figures: Figures) -> int:
    """Documents of the dev split whose token ids decode to another text."""
    return max((of_model.get("lossy_documents", 0) for of_model in figures.values()), default=0)
