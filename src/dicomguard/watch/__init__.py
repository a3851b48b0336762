"""The daemon: watches a folder, and acts on what the scan says of every file in it."""
