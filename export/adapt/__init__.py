"""A bundle made true at another site: its head is fitted again on the kept training features and the site's fields.

    site.py        the technician's folder: one folder a class, in groups that stay together
    graphs.py      a bundle's graphs up to what the classifier reads, and with another head behind it
    refit.py       classifier, Gaussian, limit and threshold, cross-validated on home and site together
    gate.py        what the new bundle must keep, and the table that says so
    files.py       the new bundle's files and record
    run.py         all of it in order

No torch: it runs on the mini PC.
"""
