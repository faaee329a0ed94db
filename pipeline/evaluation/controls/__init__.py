"""Controls of sentence-level designs: what could refute that sentences, or a part of a design, lower bits per byte."""
