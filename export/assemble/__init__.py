"""From parts to the files of a bundle: cut, fuse, verify, describe."""
