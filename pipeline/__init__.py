"""What flows: text, sentences, tokens, shards, batches, models, figures. Knows nothing of Ray, DeepSpeed or MLflow."""
