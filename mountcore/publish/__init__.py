"""Publishing a folder to a place: what a static site generator's "deploy" does, for any folder and any storage.

A listing of checksums is kept at the place, since FTP cannot compare files: `listing` is its form (Lektor's own),
`site` what is to be published and in which order, `publishing` does it.
"""
