"""Ray, DeepSpeed, MLflow and storage: what `pipeline` runs on, behind the protocols that it defines. It must not know
`jobs`, and holds no algorithm on text or models.
"""
