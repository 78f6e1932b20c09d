"""Plots and self-contained HTML pages from results given as data; knows nothing of who computed them."""
