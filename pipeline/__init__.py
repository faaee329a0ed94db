"""What flows, one file a noun: corpus, sentences, tokens, shards, batches, vae, sllm, evaluation, generation."""
