"""Episodes: prompts, rollouts, continuations, evaluation, reward."""
