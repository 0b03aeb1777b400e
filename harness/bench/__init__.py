"""What `make bench` measures, returned as rows."""
