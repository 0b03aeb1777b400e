"""The methods inside other trainers: verl and TRL. Each adapter needs its trainer and nothing else does."""
