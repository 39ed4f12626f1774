"""`python -m invad` is `invad-pipe`."""

from invad.cli import main

if __name__ == "__main__":
    main()
