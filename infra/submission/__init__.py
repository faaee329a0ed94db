"""Jobs sent to a Ray cluster by its Jobs API, and what is known of them there."""
