"""What the platform keeps of what it did, to be looked at: below control, above the stores."""
