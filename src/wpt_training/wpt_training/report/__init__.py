"""Pictures of drives and plans."""
