"""``python -m dicomguard``."""

from dicomguard.cli import main

if __name__ == "__main__":
    main()
