"""Whole slides, tile by tile: needs the extra ``slides``.

reader.py    a slide file, whatever made it: its size, its scale, and the pixels of any part
tiff.py      the same for TIFF files that OpenSlide does not read, and what is checked of every TIFF file
grid.py      which tiles there are, at which level they are read, and which show bare glass
kept.py      the answers, and the file that keeps them while a slide is being answered
scan.py      reads and answers tile after tile
output.py    Parquet, GeoJSON, a picture and a summary
"""
