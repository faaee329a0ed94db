"""A command with several jobs: its MLflow run, below which theirs are."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from infra.provenance import code_versions
from infra.tracking.parent import ParentRun, jobs_below
from infra.tracking.run import ActiveRun
from jobs.runner.run_page.description import description_of_several
from jobs.runner.run_page.files import start_files
from jobs.runner.run_page.parameters import run_parameters
from jobs.runner.run_page.tags import corpus_tag, origin_tags
from pipeline.config import Config
from pipeline.redaction import redacted_tree


@contextlib.contextmanager
def several_jobs(verb: str, config: Config, jobs: Sequence[str]) -> Iterator[ParentRun]:
    """A context in which the jobs of `sllm VERB`, which writes below `config.output`, have runs below one of its own.

    `jobs`: their names, in words.
    """
    output = str(config.output)
    tree = redacted_tree(config.model_dump(mode="json"))
    sections = [key for key in tree if key not in ("output", "tracking")]

    def log_start(run: ActiveRun) -> None:
        tags = {"sllm.verb": verb, **corpus_tag(config), **origin_tags(verb, code_versions())}
        shown = {key: value for key, value in tags.items() if value}
        run.log_start(
            run_parameters(tree, [], [], sections, {}),
            [],
            shown,
            description_of_several(verb, output, jobs),
        )
        for name, text in start_files(tree).items():
            run.log_text(name, text)

    parent = ParentRun(config.tracking, f"{verb} {Path(output).name}", output, log_start)
    with jobs_below(parent):
        yield parent
