"""What went wrong: evidence, explanation, the story of an incident."""
