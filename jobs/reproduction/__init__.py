"""`sllm reproduce`: the job, the paper's table, and the report."""
