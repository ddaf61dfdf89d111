"""``python -m slowfast`` is the `slowfast` command."""

from slowfast.cli.main import main

if __name__ == "__main__":
    main()
