"""The engine of the file commands: walking, filtering, comparing and transferring between remotes, without a cache.

`globs` and `filters` are pure; `places` turns a user's words into a remote and a path on it; `walk` lists in
parallel; `content` carries bytes from a read to a put; `transfer` copies and moves one file, `sync` whole trees;
`compare` says whether two files are equal; `tally` counts what happens, for progress and exit codes. Used by
:mod:`mountcore.commands`, which parse words and print.
"""
