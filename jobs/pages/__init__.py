"""Self-contained HTML pages: one look, no script, no network."""
