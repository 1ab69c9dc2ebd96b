"""Whole slides, tile by tile: needs the extra ``slides``.

reader.py          a slide file, whatever made it: its size, its scale, and the pixels of any part
openslide_file.py  the same for what OpenSlide reads
tiff.py            the same for TIFF files that it does not read, and what is checked of every TIFF file
tiff_level.py      one level of a TIFF file, decoded tile by tile
grid.py            which tiles there are, at which level they are read, and which show bare glass
kept.py            the answers, and the file that keeps them while a slide is being answered
scan.py            reads and answers tile after tile
output.py          Parquet, GeoJSON, a picture and a summary
"""
