"""Training of `learned_v1`: labelled text, augmentation, and the two networks in torch.

`sllm train-segmenter` and `sllm bench` import it. What splits text must not, since it needs torch. Nor must it know
Ray, MLflow or the configuration of a job.
"""
