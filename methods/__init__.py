"""Credit-assignment methods: trajectories in, credit per token out."""
