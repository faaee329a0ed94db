"""Reading gzip from its middle: points at which inflation can start, found while a file is surveyed."""
