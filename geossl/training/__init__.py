"""Pretraining: the one Lightning module, its callbacks and optimisers, and ``pretrain()``."""
