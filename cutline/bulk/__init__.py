"""Caption collections: sources, a manifest of what is done, outputs, and engines that caption."""
