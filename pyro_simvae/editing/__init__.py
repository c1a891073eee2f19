"""Writing a story of one's own: a copy to begin with, a check of what it says, and its picture."""
