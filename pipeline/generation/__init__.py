"""Text from models, token by token and sentence by sentence. Knows nothing of training or of evaluation."""
