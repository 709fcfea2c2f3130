"""Choosing a recipe's parameters or its models on held-out data: greedy soups, grids, learned coefficients."""
