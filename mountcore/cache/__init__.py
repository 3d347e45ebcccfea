"""The cache on disk: which bytes of which version are held, what must still be uploaded, what may go."""
