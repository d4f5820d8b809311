"""The steps from an empty database to the schema of today; one file each, never changed once released."""
