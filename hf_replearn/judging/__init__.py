"""The stories of `evaluate` and `finetune`, told once for the command line and for notebooks."""
