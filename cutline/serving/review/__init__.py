"""Review captions on a local page: accept, edit, reject; every step is kept in a journal."""
