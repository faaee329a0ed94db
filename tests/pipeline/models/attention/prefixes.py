"""What a token-level model must give, from prefixes alone, and what it gives in generation."""

from pipeline.generation.sampling import Sampler


def nll_from_prefixes(document, context, overlap, eos, logits_of):
    """NLL (nats) of a document and EOS; `logits_of(tokens, start)`: the next token's logits [V], given the tokens of
    the document so far and the start of the window that has that token in its loss."""
    tokens, total = [token for sentence in document for token in sentence], 0.0
    for position, target in enumerate([*tokens, eos]):
        # EOS belongs to the window of the last token.
        stride, last = context - 1 - overlap, min(position, len(tokens) - 1)
        start = max(last // stride * stride - overlap, 0)
        total -= logits_of(tokens[:position], start).log_softmax(-1)[target].item()
    return total


class RecordingSampler:
    """Samples at temperature 1 and keeps the logits [B, V] of each step in `given`."""

    def __init__(self):
        self.given = []

    def __call__(self, logits_BV):
        self.given.append(logits_BV.clone())
        return Sampler(1.0, seed=len(self.given))(logits_BV)
