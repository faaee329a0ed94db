"""`sllm bench`: our code and other packages measured in one run. It must not be imported by anything but the table of
verbs, and imports no verb's console.
"""
