"""ALFWorld (text version): engine, games, panels, experts."""
