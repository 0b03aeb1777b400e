"""What a policy knows and can do without its environment, before training and after it, measured with lm-eval."""
