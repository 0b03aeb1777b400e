"""Many runs: matrix, workers, listings, evaluations, doctor."""
