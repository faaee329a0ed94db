"""The oldest and the newest supported dependencies, each in an environment of its own: `make matrix`."""
