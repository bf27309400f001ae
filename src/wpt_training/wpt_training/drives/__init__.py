"""Where driving data comes from; every source yields the same Drive and Frame."""
