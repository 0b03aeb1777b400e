"""From names to things: settings, parts, teachers."""
