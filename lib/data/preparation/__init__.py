"""Real datasets on their way to a prepared folder: fetching, preparing, checking, and a user's own pictures."""
