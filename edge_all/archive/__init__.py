"""More images than one would wait for: folders, shards and tables, on disks and in object stores.

sources.py   what the user named, as parts: some files, or a shard or a table
contents.py  the images of a part, one by one
answers.py   a part answered, as a table
store.py     where the tables go, and what is there already
local.py     all parts, on the threads of this machine
cluster.py   all parts through Ray Data, on this machine or on many
"""
