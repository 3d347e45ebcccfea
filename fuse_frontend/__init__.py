"""The FUSE front end: a Vfs as a mounted file system.

``operations`` is what the file system does, in Python's terms; a session (``session_pyfuse3``,
``session_direct``) brings the kernel's requests to it. ``command`` is what the command line calls.
"""
