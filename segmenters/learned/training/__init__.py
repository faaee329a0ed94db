"""Training of `learned_v1`: labelled text, augmentation, and the two networks in torch.

Only `sllm train-segmenter` and `sllm bench` may import it, since it needs torch. It must not know Ray, MLflow or the
configuration of a job.
"""
