"""What requests used: their records, the journal these are written to before an answer ends, and its way to control."""
