"""What a user would write or run instead of the platform, as good as we can make it."""
