"""The stages from text to models and their evaluation. It must not know Ray, DeepSpeed or MLflow.

A name of an array ends in its axes, a letter for each; a 1 after a letter is an axis of one, or one more (`starts_N1`
has N + 1 elements). Small letters are sizes inside one bucket (`RaggedLayout`): s sequences of at most l tokens.

| letter | what | letter | what |
|---|---|---|---|
| T | tokens, packed end to end | N | documents of a source |
| R | positions of the decoder: T + S, a BOS for each sentence | W | windows of a source |
| S | sentences, packed end to end | P | windows of a pool that is packed |
| D | windows in a micro-batch, each of one document; or some of B documents | M | sentences per window |
| B | documents generated side by side | L | tokens per row of a token-level batch |
| H | hidden size | X | positions that a sliding window or cache holds |
| A | attention heads | Y | keys that a chunk of X queries sees |
| K | size of a head | C | chunks of X positions |
| V | vocabulary | G | cells of all buckets, padding among them |
| E | width of the token embedding | | |
"""
