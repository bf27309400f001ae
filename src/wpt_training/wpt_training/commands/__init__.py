"""The commands of `wpt`, one file a group."""
