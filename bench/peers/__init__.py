"""One adapter per peer and one per raw driver; see ``bench.adapter``."""
