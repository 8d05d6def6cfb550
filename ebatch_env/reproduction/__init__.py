"""Published results beside measured ones, section by section: `ebatch reproduce`."""
