"""`python -m gridfs` is `grid`."""

from gridfs.cli import main

if __name__ == "__main__":
    main()
