"""What printed percentages can be fractions of: an audit of published tables, by whole numbers alone."""
