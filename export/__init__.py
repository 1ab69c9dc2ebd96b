"""The export toolchain: from a frozen CNN and a folder of smears to a bundle. Needs the `export` extra."""
