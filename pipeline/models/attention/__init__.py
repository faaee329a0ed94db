"""Attention to earlier text: latents of earlier sentences, or of chunks of tokens."""
