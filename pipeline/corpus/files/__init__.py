"""The files of the corpus: what an input names, and which of its files hold no documents."""
