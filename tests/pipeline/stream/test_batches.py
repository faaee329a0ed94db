"""Batches made by whole arrays are what plain loops over windows and sentences would make."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stream.batches import IGNORED, SentenceBatch, TokenBatch
from pipeline.stream.ragged import ragged_layout
from pipeline.stream.windows import SentenceWindows, TokenWindows

BOS, EOS = 1, 2


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans(), st.integers(0, 3)), min_size=1, max_size=6))
def test_rows_of_tokens(windows):
    rows = [list(range(10 * i + 3, 10 * i + 3 + length)) for i, (length, _, _) in enumerate(windows)]
    contexts = [min(context, len(row)) for row, (_, _, context) in zip(rows, windows, strict=True)]
    batch = TokenBatch.pack(
        [token for row in rows for token in row],
        [len(row) for row in rows],
        bos_id=BOS,
        eos_id=EOS,
        ends_document_D=np.array([ends for _, ends, _ in windows]),
        context_D=np.array(contexts),
    )
    length = max(len(row) + ends for row, (_, ends, _) in zip(rows, windows, strict=True))
    for i, (row, (_, ends, _)) in enumerate(zip(rows, windows, strict=True)):
        targets = [IGNORED] * contexts[i] + row[contexts[i] :] + [EOS] * ends
        inputs = [BOS, *row][:length]
        assert batch.targets_DL[i].tolist() == targets + [IGNORED] * (length - len(targets))
        assert batch.inputs_DL[i].tolist() == inputs + [0] * (length - len(inputs))


@given(st.lists(st.integers(1, 70), min_size=1, max_size=30), st.booleans())
def test_every_token_has_a_cell_of_its_own_and_finds_back(lengths, lengthened):
    layout = ragged_layout(np.array(lengths))
    if lengthened:
        layout, lengths = layout.lengthened(), [length + 1 for length in lengths]
    assert layout.positions_T.tolist() == [position for length in lengths for position in range(length)]
    assert layout.sequence_T.tolist() == [i for i, length in enumerate(lengths) for _ in range(length)]
    gather_C = torch.cat([gather.flatten() for gather in layout.gathers])
    mask_C = torch.cat([mask.flatten() for mask in layout.masks])
    assert len(gather_C) == layout.num_cells
    assert gather_C[layout.scatter_T].tolist() == list(range(sum(lengths)))
    assert mask_C.sum() == sum(lengths) and mask_C[layout.scatter_T].all()
    for gather_sl, mask_sl in zip(layout.gathers, layout.masks, strict=True):
        for row, filled in zip(gather_sl, mask_sl, strict=True):
            tokens = row[filled]
            assert len(set(layout.sequence_T[tokens].tolist())) == 1
            assert layout.positions_T[tokens].tolist() == list(range(len(tokens)))


def test_attention_buckets_of_english_are_padded_by_less_than_5_percent():
    """Sentence lengths as in technical English: log-normal, cut at 64 tokens."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(2.5, 0.85, 1000).astype(np.int64), 1, 64)
    for rows in (ragged_layout(lengths), ragged_layout(lengths).lengthened()):
        assert 1 - rows.num_tokens / rows.num_cells < 0.05


def test_positions_of_the_decoder():
    batch = SentenceBatch.pack([5, 6, 7, 8], [1, 3], [2], bos_id=BOS, eos_id=EOS)
    assert batch.decoded.inputs_R.tolist() == [BOS, 5, BOS, 6, 7, 8]
    assert batch.decoded.targets_R.tolist() == [5, EOS, 6, 7, 8, EOS]
    moved = batch.to("cpu")
    assert torch.equal(moved.decoded.targets_R, batch.decoded.targets_R)


def test_windows_bring_their_own_tokens(random_documents):
    documents = random_documents(12)
    for source in (SentenceWindows(documents, 4, BOS, EOS), TokenWindows(documents, 9, BOS, EOS)):
        index = np.array([5, 0, 11, 3])
        batch = source.batch(index)
        whole = [token for document in documents.documents for sentence in document for token in sentence]
        windows = source.windows
        if isinstance(batch, SentenceBatch):
            spans = [slice(source.token_start_W[i], source.token_end_W[i]) for i in index]
            assert batch.tokens_T.tolist() == [token for span in spans for token in whole[span]]
        else:
            for row, i in enumerate(index):
                tokens = whole[windows.start_W[i] : windows.end_W[i]]
                assert batch.targets_DL[row, : len(tokens)].tolist() == tokens


def test_of_the_context_only_the_last_sentences_are_decoded():
    batch = SentenceBatch.pack(
        [3, 4, 5, 6, 7, 8, 9],
        [1, 2, 1, 1, 2],
        [4, 1],
        bos_id=BOS,
        eos_id=EOS,
        context_D=[3, 0],
        decoded_context_positions=2,
    )
    assert batch.decoded.sentence_S.tolist() == [2, 3, 4]
    assert batch.decoded.tokens_T.tolist() == [6, 7, 8, 9]
    assert batch.decoded.in_loss_S.tolist() == [False, True, True]
    assert batch.decoded.window_S.tolist() == [0, 0, 1]
    assert batch.decoded.index_S.tolist() == [2, 3, 0]
    assert batch.decoded.stop_S.tolist() == [0, 1, 1]
    assert batch.tokens_T.tolist() == [3, 4, 5, 6, 7, 8, 9]
