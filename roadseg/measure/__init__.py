"""How right, how steady and how fast."""
