"""A study as one HTML page that can be looked into: no server, no network."""
