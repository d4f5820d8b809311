"""Values that are only named: reads them where they are, keeps them in memory, and follows them as they change."""
