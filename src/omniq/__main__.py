"""`python -m omniq` is `omniq`."""

from omniq.cli import main

main()
