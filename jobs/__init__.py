"""What a person starts: one file a verb; `jobs/presets/` holds configurations that work as they are."""
