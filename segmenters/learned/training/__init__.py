"""Training of the learned segmenter. Imported by `sllm train-segmenter` and `sllm bench` alone; needs torch."""
