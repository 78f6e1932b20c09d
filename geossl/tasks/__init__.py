"""Tasks: what is to be mapped, heads that predict it, baselines that a head has to beat, and ``finetune``."""
