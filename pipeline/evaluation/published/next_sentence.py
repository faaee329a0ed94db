"""Next-sentence prediction as the published code computes it: its forward pass and its training objective.

Two of its rules are in the forward pass. `future`: the trunk's layers get no causal mask, so the vector from which a
sentence is predicted has seen that sentence, later ones, and padding up to `context_sentences`. `targets`: sentence
i + 1 is scored on as many positions as sentence i has, with EOS at the end of those; where it is shorter, padding is a
target.
"""

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.errors import ModelError
from pipeline.models.cross_entropy import head_cross_entropy
from pipeline.models.precision import at_least_fp32
from pipeline.models.sllm import Sllm
from pipeline.stream.batches import SentenceBatch

PAD_ID = 0
"""Token that pads: that of a tokenizer trained by `sllm prepare`."""


def check_design(model: Sllm) -> None:
    """Raise `ModelError` for a model that is no SLLM as published."""
    if model.context_attention is not None or model.vae.config.decoder_window:
        raise ModelError(
            "the published evaluation knows a decoder of one sentence: unset vae.decoder_window, "
            "sllm.context_attention_heads and sllm.state_attention_sentences"
        )


def next_sentence_nll(
    model: Sllm, batch: SentenceBatch, rules: Collection[str] = ()
) -> tuple[Tensor, Tensor, SentenceBatch]:
    """-> NLL (nats) of each target [R], of each stop decision [S], and the batch of these targets.

    A certain EOS costs what the decoder says.
    """
    latents_SH = model.vae.encode(batch)
    predict = _predict_from_all if "future" in rules else Sllm.predict
    predicted_SH, stop_logits_S = predict(model, latents_SH, batch)
    targets = with_lengths_before(batch) if "targets" in rules else batch
    hidden_RH = model.vae.decode_batch(predicted_SH, targets)
    nll_R, _ = head_cross_entropy(model.vae.head, hidden_RH, targets.decoded.targets_R)
    wide_S = at_least_fp32(stop_logits_S[batch.decoded.sentence_S])
    stop_S = batch.decoded.stop_S.to(wide_S.dtype)
    return nll_R, F.binary_cross_entropy_with_logits(wide_S, stop_S, reduction="none"), targets


def with_lengths_before(batch: SentenceBatch) -> SentenceBatch:
    """Each sentence cut or padded to the length of the sentence before it in its window; the first is as it is."""
    lengths_S, index_S = batch.sentences.lengths_S.cpu().numpy(), batch.index_S.cpu().numpy()
    window_S, tokens_T = batch.window_S.cpu().numpy(), batch.tokens_T.cpu().numpy()
    new_S = np.where(index_S == 0, lengths_S, np.roll(lengths_S, 1))
    starts_S = np.cumsum(lengths_S) - lengths_S
    sentence_R = np.repeat(np.arange(len(new_S)), new_S)
    offset_R = np.arange(len(sentence_R)) - np.repeat(np.cumsum(new_S) - new_S, new_S)
    inside_R = offset_R < lengths_S[sentence_R]
    source_R = np.where(inside_R, starts_S[sentence_R] + offset_R, 0)
    decoded = batch.decoded
    counts_D = np.bincount(window_S)
    in_loss_D = np.bincount(decoded.window_S[decoded.in_loss_S].cpu().numpy(), minlength=len(counts_D))
    packed = SentenceBatch.pack(
        np.where(inside_R, tokens_T[source_R], PAD_ID),
        new_S,
        counts_D,
        bos_id=decoded.bos_id,
        eos_id=decoded.eos_id,
        context_D=counts_D - in_loss_D,
        decoded_context_positions=0,
    )
    return packed.to(batch.tokens_T.device)


def _predict_from_all(model: Sllm, latents_SH: Tensor, batch: SentenceBatch) -> tuple[Tensor, Tensor]:
    """As `Sllm.predict`, by a trunk without a causal mask over passages padded to `context_sentences`."""
    counts_D = torch.bincount(batch.window_S, minlength=len(batch.document_D))
    sentences_DM = batch.sentences_DM
    inside_DM = torch.arange(sentences_DM.shape[1], device=sentences_DM.device) < counts_D[:, None]
    latents_DMH = latents_SH[sentences_DM] * inside_DM[..., None]
    padding = model.config.context_sentences - latents_DMH.shape[1]
    latents_DMH = F.pad(latents_DMH, (0, 0, 0, padding))
    start_D1H = model.start_H.expand(len(latents_DMH), 1, -1)
    inputs_DMH = model.to_trunk(torch.cat([start_D1H, latents_DMH], dim=1))
    size = inputs_DMH.shape[1]
    # A mask of four dimensions is taken as it is: nothing is hidden.
    hidden_DMH = model.trunk(
        inputs_embeds=inputs_DMH,
        attention_mask=inputs_DMH.new_zeros(len(inputs_DMH), 1, size, size),
        position_ids=torch.arange(size, device=inputs_DMH.device)[None],
        use_cache=False,
    ).last_hidden_state
    before_SH = hidden_DMH[batch.window_S, batch.index_S]
    after_SH = hidden_DMH[batch.window_S, batch.index_S + 1]
    return model.from_trunk(before_SH), model.stop_head(after_SH)[:, 0]


class NextSentenceObjective(nn.Module):
    """Training of an SLLM under rules of the published code; without any, that of `Sllm.forward`.

    `means`: the mean over passages of the mean loss of a passage. Raises `ModelError` as `check_design`.
    """

    def __init__(self, model: Sllm, rules: Collection[str]) -> None:
        super().__init__()
        check_design(model)
        self.model, self.rules = model, frozenset(rules)

    def forward(self, batch: SentenceBatch) -> dict[str, Tensor]:
        """Sums over the batch, each a scalar: `objective` (to minimise), `nll` (nats)."""
        nll_R, stop_nll_S, targets = next_sentence_nll(self.model, batch, self.rules)
        decoded = targets.decoded
        sentence_R = decoded.positions.sequence_T
        if "targets" not in self.rules:  # an EOS that is certain costs nothing
            limit = self.model.vae.config.max_sentence_tokens
            nll_R = nll_R.masked_fill(decoded.positions.positions_T == limit, 0.0)
        scored_S = decoded.in_loss_S & (decoded.index_S > 0) if "given" in self.rules else decoded.in_loss_S
        scored_R, stop_scored_S = (
            scored_S[sentence_R].to(nll_R.dtype),
            batch.decoded.in_loss_S.to(nll_R.dtype),
        )
        losses = self.model.vae.focal(nll_R) * scored_R, stop_nll_S * stop_scored_S
        if "means" in self.rules:
            windows = decoded.window_S[sentence_R], batch.decoded.window_S
            weights = len(batch.tokens_T) / len(
                batch.document_D
            )  # training divides by the tokens of the batch
            objective = weights * sum(
                _sum_of_means(loss, scored, window)
                for loss, scored, window in zip(losses, (scored_R, stop_scored_S), windows, strict=True)
            )
        else:
            objective = losses[0].sum() + losses[1].sum()
        return {
            "objective": torch.as_tensor(objective),
            "nll": ((nll_R * scored_R).sum() + (stop_nll_S * stop_scored_S).sum()).detach(),
        }


def _sum_of_means(loss_R: Tensor, counted_R: Tensor, window_R: Tensor) -> Tensor:
    """The sum over windows of the mean loss of what counts in a window; windows without any give 0."""
    windows = int(window_R.max()) + 1
    sums_D, counts_D = (x_R.new_zeros(windows).index_add(0, window_R, x_R) for x_R in (loss_R, counted_R))
    return (sums_D / counts_D.clamp(min=1)).sum()
