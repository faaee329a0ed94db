"""The bytes of a file: local or at a URL, plain or compressed, all or a range of them; and whether they are text."""
