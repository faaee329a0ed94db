"""Text from models, token by token and sentence by sentence. It must not know training or evaluation."""
