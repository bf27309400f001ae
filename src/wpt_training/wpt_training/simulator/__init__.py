"""A small world of roads and traffic, seen by rendered cameras."""
