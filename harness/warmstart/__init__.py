"""Making the embedded policy: demonstrations of a searching expert, cloned once and shipped."""
