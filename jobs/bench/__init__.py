"""`sllm bench`: sllm and other packages, measured in one run.

The command line alone imports it. It must not be needed by any other verb.
"""
