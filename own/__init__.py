"""Photographs of a user's own, as one folder that all recipes run on (docs/your_data.md)."""
