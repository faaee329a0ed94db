"""The store of `large_store` answers as one that jobs wrote."""

from tests.infra.tracking.large_store import copy_chains, log_chain, questions


def test_copied_chains_are_found(tracking_uri, tmp_path):
    made = log_chain(tracking_uri, tmp_path)
    last = copy_chains(tracking_uri, made, 3)
    found = {
        name: number
        for name, number, _, _ in questions(tracking_uri, {k: v.run_id for k, v in made.items()}, last)
    }
    assert found["which models saw this file"] == found["which runs are stale since it changed"] == 2 * 16
    assert found["what is this run made from"] == 31 and found["which segmenter won on this corpus"] == 2
