"""Other servers that stoker is compared with. None is a dependency: each lives in a folder of its own in the cache."""
