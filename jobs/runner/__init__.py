"""How every job runs: arguments, output folder, reuse, record, progress. Knows no verb."""
