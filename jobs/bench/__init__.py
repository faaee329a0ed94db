"""`sllm bench`: measurements of sllm and other packages in one run. Only the table of verbs may import it, and it
imports no console of a verb.
"""
