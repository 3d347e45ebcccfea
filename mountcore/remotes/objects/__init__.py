"""Object stores: S3 and what speaks it, Google Cloud Storage, Azure Blob Storage.

`store` is the seam: flat keys, whole objects, pages. `remote` makes the port of it (directories, times, versions).
`s3/` speaks S3 over `http`, by itself; `through_obstore` is the other two. `facts` says what a user can set, and is
all that is imported before a storage is opened.
"""
