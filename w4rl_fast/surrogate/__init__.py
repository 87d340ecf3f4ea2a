"""A small recurrent model of what eyes see, whose derivatives stand in for those of a world that has none."""
