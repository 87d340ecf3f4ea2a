"""How fast a run is here, each figure beside the truth of what was timed."""
