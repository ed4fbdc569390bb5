"""`python -m cutline`, and `torchrun -m cutline`."""

from cutline.cli import main

if __name__ == "__main__":
    main()
