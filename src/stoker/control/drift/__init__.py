"""The watch over what models see: asked of replicas, judged, told."""
