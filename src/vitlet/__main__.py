"""``python -m vitlet``."""

from vitlet.cli.main import main

if __name__ == "__main__":
    main()
