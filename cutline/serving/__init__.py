"""The HTTP server: our API, the shapes of other APIs, limits, and a page for people."""
