"""Files that start our jobs elsewhere: KubeRay, Ray's cluster launcher, Slurm, Compose, an image.

`rendering.render` makes all of them from one `DeployConfig`; `example/` holds what it makes of `example/deploy.yaml`.
"""
