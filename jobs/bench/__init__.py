"""`sllm bench`: ours and others' measured in one run. Nothing else imports it but the console."""
